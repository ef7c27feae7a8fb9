//! `[[suppressions]]`: rules that do not decide for one entity until a time.

use std::ops::Range;

use toml::{Spanned, de::DeValue};

use super::{At, Reader, Section, kind_of};
use crate::{rules::modes::Entity, types::ids::Id, types::time::Timestamp};

/// Rules, for whom, and until when.
#[derive(Debug)]
pub struct SuppressionDeclaration {
    pub rules: Vec<At<String>>,
    pub entity: Option<(Entity, String)>,
    pub until: Option<At<Timestamp>>,
    /// The whole table.
    pub span: Range<usize>,
}

impl Reader<'_, '_> {
    pub(super) fn suppression(&mut self, mut table: Section<'_, '_>) -> SuppressionDeclaration {
        let span = table.span.clone();
        let rule = table.take("rule");
        let rules = match (rule, table.take("rules")) {
            (Some(rule), None) => {
                let text = self.text("rule", rule);
                text.into_iter().map(|value| At { value, span: rule.span() }).collect()
            }
            (None, Some(rules)) => self.ids(rules).unwrap_or_default(),
            (Some(_), Some(rules)) => {
                self.report.error(rules.span(), "give either `rule` or `rules`", None);
                Vec::new()
            }
            (None, None) => {
                let help = Some("write `rule = \"rule-id\"`, or `rules = [..]`".into());
                self.report.error(span.clone(), "`rule` is missing in [[suppressions]]", help);
                Vec::new()
            }
        };
        let entity = self.entity(&mut table);
        let until = self
            .required(&mut table, "until", &span)
            .and_then(|until| Some(At { value: self.end("until", until)?, span: until.span() }));
        if let Some(why) = table.take("why") {
            self.text("why", why);
        }
        self.finish(table);
        SuppressionDeclaration { rules, entity, until, span }
    }

    /// The one entity that is named.
    fn entity(&mut self, table: &mut Section<'_, '_>) -> Option<(Entity, String)> {
        let named: Vec<_> =
            Entity::ALL.into_iter().filter_map(|entity| Some((entity, table.take(entity.name())?))).collect();
        let names = || Entity::ALL.map(Entity::name).join(", ");
        match named.as_slice() {
            [] => {
                let help = Some(format!("name one of: {}", names()));
                self.report.error(
                    table.span.clone(),
                    "a suppression says for whom, and this one does not",
                    help,
                );
                None
            }
            [(entity, value)] => {
                let id = self.text(entity.name(), value)?;
                if let Err(error) = Id::new(&id) {
                    self.report.error(value.span(), format!("`{}` {error}", entity.name()), None);
                    return None;
                }
                Some((*entity, id))
            }
            [_, (_, second), ..] => {
                let help = Some("write one [[suppressions]] for each".into());
                self.report.error(second.span(), "a suppression is for one entity", help);
                None
            }
        }
    }

    /// When something ends: a TOML date-time or date, or the same in quotes; without an offset it is UTC.
    fn end(&mut self, key: &str, value: &Spanned<DeValue>) -> Option<Timestamp> {
        const WRITE: &str = "such as 2026-12-01T00:00:00Z; a day alone, such as 2026-12-01, is over when the next one \
                             begins, UTC";
        let end = time_text(value).and_then(|text| Timestamp::parse_end(&text));
        if end.is_none() {
            let message = format!("`{key}` must be a date, or a date and a time{}", found(value));
            self.report.error(value.span(), message, Some(WRITE.into()));
        }
        end
    }

    /// A TOML date-time, or the same in quotes; without an offset it is UTC.
    pub(super) fn moment(&mut self, key: &str, value: &Spanned<DeValue>) -> Option<Timestamp> {
        let text = time_text(value).filter(|text| text.contains(':'));
        let moment = text.and_then(|text| Timestamp::parse(&text));
        if moment.is_none() {
            let message = format!("`{key}` must be a date and a time{}", found(value));
            self.report.error(value.span(), message, Some("such as 2026-12-01T00:00:00Z".into()));
        }
        moment
    }
}

fn time_text(value: &Spanned<DeValue>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        _ => None,
    }
}

/// What stands in place of a time, where that is none in any form.
fn found(value: &Spanned<DeValue>) -> String {
    match time_text(value) {
        Some(_) => String::new(),
        None => format!(", found {}", kind_of(value.get_ref())),
    }
}
