//! The model of a running engine: replaced whole or not at all, while decisions go on, as the rules are.

use std::sync::Arc;

use super::{
    Engine, Source,
    live::{ReloadError, Reloaded},
    versions,
};
use crate::{
    authorise::setup::Setup,
    journal::record::{VersionNumbers, Versioned},
    model::Model,
    types::reasons::Label,
};

/// A model that scores or once did.
#[derive(Clone, Debug)]
pub struct ModelFound {
    /// Empty where there is none.
    pub version: Label,
    pub model: Option<Arc<Model>>,
    /// Its file, where that was asked for.
    pub content: String,
}

impl Engine {
    /// The version of the model that scores; empty without one.
    pub fn model_version(&self) -> Label {
        self.in_force.load().setup.model_version.clone()
    }

    /// The model of a version that scores or ever did; of an empty one, that which scores now. `None` where there was
    /// none of that name. Reads the disk, and so is not for a runtime's thread.
    ///
    /// # Errors
    /// In words, where its file is missing or no longer what it was.
    pub fn find_model(&self, version: &str, with_content: bool) -> Result<Option<ModelFound>, String> {
        let setup = self.in_force.load().setup.clone();
        let wanted = if version.is_empty() { &*setup.model_version } else { version };
        let read = || versions::read(&self.data_dir, Versioned::Model, wanted);
        if *setup.model_version == *wanted {
            let content = if with_content && setup.model.is_some() { read()? } else { String::new() };
            return Ok(Some(ModelFound { version: setup.model_version, model: setup.model, content }));
        }
        if self.names.number(Versioned::Model, wanted).is_none() {
            return Ok(None);
        }
        let content = read()?;
        let model = Model::load(&content).map_err(|error| format!("version {wanted}: {error}"))?;
        let (version, model) = (model.version().clone(), Some(Arc::new(model)));
        let content = if with_content { content } else { String::new() };
        Ok(Some(ModelFound { version, model, content }))
    }

    /// Lets a whole model score from now on, or changes nothing; `None` lets none score. Waits for the disk, and so is not
    /// for a runtime's thread.
    ///
    /// # Errors
    /// [`ReloadError`]; the model before goes on scoring.
    pub fn reload_model(&self, source: Option<Source>) -> Result<Reloaded, ReloadError> {
        self.reload_model_read(|| Ok(source))
    }

    /// As [`Engine::reload_model`], with a model that is read once no other reload is under way: what was read later is
    /// never put in force before what was read earlier.
    ///
    /// # Errors
    /// [`ReloadError`]; the model before goes on scoring.
    pub fn reload_model_read(
        &self,
        read: impl FnOnce() -> Result<Option<Source>, ReloadError>,
    ) -> Result<Reloaded, ReloadError> {
        self.reload_one(Versioned::Model, |from| {
            let Some(source) = read()? else { return self.put_model_in_force(None) };
            from.clone_from(&source.name);
            let Source { name, text } = source;
            let model = Model::load(&text).map_err(|error| ReloadError::Model { name, error })?;
            self.put_model_in_force(Some((Arc::new(model), &text)))
        })
    }

    /// Lets a model score from now on, once its text is kept and introduced.
    fn put_model_in_force(&self, model: Option<(Arc<Model>, &str)>) -> Result<Reloaded, ReloadError> {
        let before = self.in_force.load_full();
        let (model, text) = model.map_or((None, ""), |(model, text)| (Some(model), text));
        let version = model.as_ref().map_or(Label::Static(""), |model| model.version().clone());
        if version == before.setup.model_version {
            // It may have been introduced a moment ago.
            let position = self.journal.taken();
            return Ok(Reloaded { version, position, changed: false, warnings: Vec::new() });
        }
        let (number, position) = self.introduce(Versioned::Model, &version, text)?;
        let setup = Setup {
            model,
            model_version: version.clone(),
            numbers: VersionNumbers { model: number, ..before.setup.numbers },
            ..before.setup.clone()
        };
        self.in_force.store(Arc::new(before.with_setup(setup)));
        self.metrics.model_loaded(&version);
        Ok(Reloaded { version, position, changed: true, warnings: Vec::new() })
    }
}
