//! The models of a running engine: each replaced whole or not at all, while decisions go on, as the rules are.

use std::{io, sync::Arc};

use super::{
    Engine, Source,
    live::{InForce, ReloadError, Reloaded},
    versions,
};
use crate::{
    authorise::setup::{Challenger, Setup},
    journal::record::{VersionNumbers, Versioned},
    model::Model,
    types::reasons::Label,
};

/// What stands where a model file could, for no model.
pub const NO_MODEL: &str = "none";

/// Which of the two models is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModelRole {
    /// Decides.
    Champion,
    /// Scores in shadow.
    Challenger,
}

impl ModelRole {
    fn versioned(self) -> Versioned {
        match self {
            ModelRole::Champion => Versioned::Model,
            ModelRole::Challenger => Versioned::Challenger,
        }
    }

    fn version(self, setup: &Setup) -> Label {
        match self {
            ModelRole::Champion => setup.model_version.clone(),
            ModelRole::Challenger => setup.challenger_version(),
        }
    }
}

/// A model that scores or once did.
#[derive(Clone, Debug)]
pub struct ModelFound {
    /// Empty where there is none.
    pub version: Label,
    pub model: Option<Arc<Model>>,
    /// Its file, where that was asked for.
    pub content: String,
    /// Of the challenger that scores now; empty without one.
    pub challenger_version: Label,
}

impl Engine {
    /// The version of the model that scores; empty without one.
    pub fn model_version(&self, role: ModelRole) -> Label {
        role.version(&self.in_force.load().setup)
    }

    /// The model of a version that scores or ever did; of an empty one, that which decides now. `None` where there was
    /// none of that name. Reads the disk, and so is not for a runtime's thread.
    ///
    /// # Errors
    /// In words, where its file is missing or no longer what it was.
    pub fn find_model(&self, version: &str, with_content: bool) -> Result<Option<ModelFound>, String> {
        let setup = self.in_force.load().setup.clone();
        let challenger_version = setup.challenger_version();
        let wanted = if version.is_empty() { &*setup.model_version } else { version };
        let read = || versions::read(&self.data_dir, Versioned::Model, wanted);
        if *setup.model_version == *wanted {
            let content = if with_content && setup.model.is_some() { read()? } else { String::new() };
            let (version, model) = (setup.model_version, setup.model);
            return Ok(Some(ModelFound { version, model, content, challenger_version }));
        }
        let is_known = |what| self.names.number(what, wanted).is_some();
        if !is_known(Versioned::Model) && !is_known(Versioned::Challenger) {
            return Ok(None);
        }
        let content = read()?;
        let model = Model::load(&content).map_err(|error| format!("version {wanted}: {error}"))?;
        let (version, model) = (model.version().clone(), Some(Arc::new(model)));
        let content = if with_content { content } else { String::new() };
        Ok(Some(ModelFound { version, model, content, challenger_version }))
    }

    /// Lets a whole model score from now on, or changes nothing; `None` lets none score. Waits for the disk, and so is not
    /// for a runtime's thread.
    ///
    /// # Errors
    /// [`ReloadError`]; the model before goes on scoring.
    pub fn reload_model(&self, role: ModelRole, source: Option<Source>) -> Result<Reloaded, ReloadError> {
        let from = source.as_ref().map_or(NO_MODEL, |source| &source.name).to_owned();
        self.reload_model_read(role, &from, || Ok(source))
    }

    /// As [`Engine::reload_model`], with a model that is read from the place of that name once no other reload is under
    /// way: what was read later is never put in force before what was read earlier.
    ///
    /// # Errors
    /// [`ReloadError`]; the model before goes on scoring.
    pub fn reload_model_read(
        &self,
        role: ModelRole,
        from: &str,
        read: impl FnOnce() -> Result<Option<Source>, ReloadError>,
    ) -> Result<Reloaded, ReloadError> {
        self.reload_one(role.versioned(), from, || {
            let Some(Source { name, text }) = read()? else { return self.put_model_in_force(role, None) };
            let model = Model::load(&text).map_err(|error| ReloadError::Model { name, error })?;
            self.put_model_in_force(role, Some((Arc::new(model), &text)))
        })
    }

    /// Lets the challenger decide, and the model that decided be the challenger. Waits for the disk, and so is not for a
    /// runtime's thread.
    ///
    /// # Errors
    /// [`ReloadError::NoChallenger`], [`ReloadError::Keep`] and [`ReloadError::Journal`]; each stays what it was.
    pub fn promote_challenger(&self) -> Result<Reloaded, ReloadError> {
        self.reload_one(Versioned::Model, "the challenger", || {
            let before = self.in_force.load_full();
            let setup = &before.setup;
            let challenger = setup.challenger.as_ref().ok_or(ReloadError::NoChallenger)?;
            let version = challenger.model.version().clone();
            if version == setup.model_version {
                return Ok(self.model_unchanged(version));
            }
            let introduced = |what, model: &Model| {
                let text = versions::read(&self.data_dir, what, model.version());
                let text = text.map_err(|error| ReloadError::Keep(io::Error::other(error)))?;
                self.introduce(what, model.version(), &text)
            };
            let (number, mut position) = introduced(Versioned::Model, &challenger.model)?;
            let mut former = None;
            if let Some(model) = &setup.model {
                let (number, later) = introduced(Versioned::Challenger, model)?;
                (former, position) = (Some(Challenger { model: Arc::clone(model), number }), later);
            }
            self.score_by(
                &before,
                Setup {
                    model: Some(Arc::clone(&challenger.model)),
                    model_version: version.clone(),
                    numbers: VersionNumbers { model: number, ..setup.numbers },
                    challenger: former,
                    ..setup.clone()
                },
            );
            Ok(Reloaded { version, position, changed: true, warnings: Vec::new() })
        })
    }

    /// Lets a model score from now on, once its text is kept and introduced.
    fn put_model_in_force(
        &self,
        role: ModelRole,
        model: Option<(Arc<Model>, &str)>,
    ) -> Result<Reloaded, ReloadError> {
        let before = self.in_force.load_full();
        let setup = &before.setup;
        let (model, text) = model.map_or((None, ""), |(model, text)| (Some(model), text));
        let version = model.as_ref().map_or(Label::Static(""), |model| model.version().clone());
        if version == role.version(setup) {
            return Ok(self.model_unchanged(version));
        }
        let (setup, position) = match (role, model) {
            (ModelRole::Champion, model) => {
                let (number, position) = self.introduce(Versioned::Model, &version, text)?;
                let numbers = VersionNumbers { model: number, ..setup.numbers };
                (Setup { model, model_version: version.clone(), numbers, ..setup.clone() }, position)
            }
            (ModelRole::Challenger, Some(model)) => {
                let (number, position) = self.introduce(Versioned::Challenger, &version, text)?;
                (Setup { challenger: Some(Challenger { model, number }), ..setup.clone() }, position)
            }
            // Records that name no challenger need no version of none.
            (ModelRole::Challenger, None) => {
                (Setup { challenger: None, ..setup.clone() }, self.journal.taken())
            }
        };
        self.score_by(&before, setup);
        Ok(Reloaded { version, position, changed: true, warnings: Vec::new() })
    }

    fn model_unchanged(&self, version: Label) -> Reloaded {
        // It may have been introduced a moment ago.
        Reloaded { version, position: self.journal.taken(), changed: false, warnings: Vec::new() }
    }

    /// Lets the models of this setup score from now on, whose versions are introduced.
    fn score_by(&self, before: &InForce, setup: Setup) {
        self.in_force.store(Arc::new(before.with_models(setup, &self.metrics)));
    }
}
