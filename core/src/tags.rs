//! What people call a workspace: a name that no other one has, and labels to sort by.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::rejection::Rejection;

/// Longest name and longest key of a label, in characters.
const WORD_LEN_MAX: usize = 64;
/// Longest value of a label, in bytes.
const VALUE_LEN_MAX: usize = 256;
/// Most labels of one workspace.
const LABELS_MAX: usize = 64;

/// Name and labels of a workspace, as they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The name; `None` for none.
    pub name: Option<String>,
    /// The labels, by key.
    pub labels: BTreeMap<String, String>,
}

impl Tags {
    /// Tells whether there is neither a name nor a label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.labels.is_empty()
    }

    /// Tells whether a text can be the name of a workspace.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        is_word(text)
    }

    pub(crate) fn check(&self) -> Result<(), Rejection> {
        if self.name.as_deref().is_some_and(|name| !is_word(name)) {
            return Err(Rejection::InvalidText { field: "name", rule: WORD_RULE });
        }
        if self.labels.keys().any(|key| !is_word(key)) {
            return Err(Rejection::InvalidText { field: "the key of a label", rule: WORD_RULE });
        }
        if self.labels.values().any(|value| value.len() > VALUE_LEN_MAX || value.contains(char::is_control)) {
            let rule = "up to 256 bytes long and without control characters";
            return Err(Rejection::InvalidText { field: "the value of a label", rule });
        }
        if self.labels.len() > LABELS_MAX {
            return Err(Rejection::InvalidText { field: "the number of labels", rule: "64 or less" });
        }
        Ok(())
    }
}

const WORD_RULE: &str =
    "1 to 64 letters of ASCII, digits, `.`, `_` and `-`, and begin with a letter or digit";

/// Names become names of files, so they hold nothing that means something in a path.
fn is_word(text: &str) -> bool {
    text.len() <= WORD_LEN_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
