//! The one table of fields and features. Serving, training, the rule checker, `rules explain` and the model's
//! reasons all read it; nothing else names a feature.

/// The type of a value, as rules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    Bool,
    Int,
    Float,
    /// Minor units of the request's billing currency; literals compared with it are in major units.
    Money,
    Text,
}

/// One field of the request or one computed feature.
#[derive(Debug)]
pub struct Entry {
    /// As rules write it, such as `merchant.country`.
    pub name: &'static str,
    /// Other spellings that mean the same, such as the wire's own `merchant.country_code`.
    pub aliases: &'static [&'static str],
    pub ty: Type,
    /// Such as `km`, `s`, `minor units`; empty where there is none.
    pub unit: &'static str,
    /// One sentence; says when the value is missing.
    pub doc: &'static str,
    /// Where the model reads it: what a cardholder can be told when it weighed against them.
    pub model: Option<ModelInput>,
}

/// How a feature serves the model.
#[derive(Debug)]
pub struct ModelInput {
    /// Reason code, capitals and underscores.
    pub reason_code: &'static str,
    pub reason_text: &'static str,
}
