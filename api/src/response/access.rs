//! Answers about who was not let in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A refusal that is on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessRefusedResult {
    /// Always `true`.
    pub recorded: bool,
}
