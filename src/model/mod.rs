//! The scoring model: gradient-boosted trees over the feature catalogue, a score from 0 to 999, and why.
//!
//! Scoring and explaining allocate nothing and read nothing but the row; a model is read from text that somebody
//! else loaded, checked whole, and never changed. Training lives here too, so that what is trained is what is
//! scored, but no decision calls it.

/// The model that scores where none is given: trained by `models/train.sh` on a simulated world.
pub const SHIPPED: &str = include_str!("../../models/default.json");

pub mod drift;
mod explain;
mod file;
mod forest;
mod grow;
pub mod import;
pub mod linear;
pub mod quality;
mod scale;
pub mod shap;
pub mod train;
mod trees;

#[cfg(test)]
pub(crate) use self::file::tests::{model_text, overflowing_model_text};
pub use self::{
    explain::ModelReasons,
    file::{AtThreshold, Model, ModelError, Period, Scored, Training, Tried},
};
