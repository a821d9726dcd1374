//! Names of resources.

use std::fmt;

use crate::arguments::distance;

/// Longest name that is looked at, in bytes: the longest real one is far shorter.
const LEN_MAX: usize = 512;

/// The forms of names, as templates. What stands in braces is up to the client.
pub(crate) const FORMS: [&str; 6] = [
    "pyro://workspaces",
    "pyro://workspaces/{id}",
    "pyro://workspaces/{id}/logs/{n}/stdout",
    "pyro://workspaces/{id}/logs/{n}/stderr",
    "pyro://workspaces/{id}/shells/{shell_id}/screen",
    "pyro://log",
];

const SCHEME: &str = "pyro://";

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    /// All workspaces.
    Workspaces,
    /// One workspace, by what the client calls it.
    Workspace(String),
    /// What a command of a workspace printed.
    Output { workspace: String, number: u32, stream: OutputStream },
    /// What the terminal of a shell shows.
    Screen { workspace: String, shell: String },
    /// The event log.
    Log,
}

/// An output stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

impl OutputStream {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A resource, and where to begin in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    pub(crate) address: Address,
    /// The first byte of an output, or the number of the first event of the log; `None` where the client does not say.
    pub(crate) from: Option<u64>,
}

/// A text that names no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UriError {
    #[error("a name of a resource has at most {LEN_MAX} bytes")]
    TooLong,
    #[error("{parameter} is a number, 0 or more")]
    NotANumber { parameter: &'static str },
    #[error("{address} takes no parameters{}", taken(.address))]
    UnknownParameter { address: Address },
    #[error("there is no such resource; did you mean {nearest}?")]
    Misspelled { nearest: String },
    #[error("there is no such resource; there are {}", FORMS.join(", "))]
    Unknown,
}

impl Uri {
    /// Takes a name apart.
    ///
    /// # Errors
    ///
    /// What is wrong with it, with the form that is nearest to it.
    pub(crate) fn parse(text: &str) -> Result<Self, UriError> {
        if text.len() > LEN_MAX {
            return Err(UriError::TooLong);
        }
        let (place, query) = match text.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (text, None),
        };
        let address = Address::parse(place).ok_or_else(|| misspelled(place))?;
        let from = query.map(|query| from(&address, query)).transpose()?;
        Ok(Self { address, from })
    }
}

impl Address {
    fn parse(place: &str) -> Option<Self> {
        let parts: Vec<_> = place.strip_prefix(SCHEME)?.split('/').collect();
        let name = |text: &str| is_name(text).then(|| text.to_owned());
        match parts[..] {
            ["workspaces"] => Some(Self::Workspaces),
            ["workspaces", id] => Some(Self::Workspace(name(id)?)),
            ["workspaces", id, "logs", number, stream] => Some(Self::Output {
                workspace: name(id)?,
                number: u32::try_from(number_of(number)?).ok()?,
                stream: match stream {
                    "stdout" => OutputStream::Stdout,
                    "stderr" => OutputStream::Stderr,
                    _ => return None,
                },
            }),
            ["workspaces", id, "shells", shell, "screen"] => {
                Some(Self::Screen { workspace: name(id)?, shell: name(shell)? })
            }
            ["log"] => Some(Self::Log),
            _ => None,
        }
    }

    /// Returns the file of the tree that holds it, below its workspace; `None` when none does.
    pub(crate) fn file(&self) -> Option<(&str, String)> {
        match self {
            Self::Output { workspace, number, stream } => {
                Some((workspace, format!("logs/{number}/{}", stream.as_str())))
            }
            Self::Screen { workspace, shell } => Some((workspace, format!("shells/{shell}/screen"))),
            Self::Workspaces | Self::Workspace(_) | Self::Log => None,
        }
    }

    /// Returns the workspace that it belongs to; `None` when it belongs to none.
    pub(crate) fn workspace(&self) -> Option<&str> {
        match self {
            Self::Workspace(workspace) | Self::Output { workspace, .. } | Self::Screen { workspace, .. } => {
                Some(workspace)
            }
            Self::Workspaces | Self::Log => None,
        }
    }

    /// Returns the same of the workspace by its whole id.
    pub(crate) fn of(self, id: String) -> Self {
        match self {
            Self::Workspace(_) => Self::Workspace(id),
            Self::Output { number, stream, .. } => Self::Output { workspace: id, number, stream },
            Self::Screen { shell, .. } => Self::Screen { workspace: id, shell },
            Self::Workspaces => Self::Workspaces,
            Self::Log => Self::Log,
        }
    }

    const fn parameter(&self) -> Option<&'static str> {
        match self {
            Self::Output { .. } => Some("offset"),
            Self::Log => Some("since"),
            Self::Workspaces | Self::Workspace(_) | Self::Screen { .. } => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workspaces => f.write_str("pyro://workspaces"),
            Self::Workspace(id) => write!(f, "pyro://workspaces/{id}"),
            Self::Output { workspace, number, stream } => {
                write!(f, "pyro://workspaces/{workspace}/logs/{number}/{}", stream.as_str())
            }
            Self::Screen { workspace, shell } => {
                write!(f, "pyro://workspaces/{workspace}/shells/{shell}/screen")
            }
            Self::Log => f.write_str("pyro://log"),
        }
    }
}

/// Tells whether a text can be an id or a name. Nothing else is passed on, so that no part of a path can hide in it.
fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && text.bytes().all(known) && text.bytes().any(|byte| byte != b'.')
}

/// Returns a number that is written in digits only.
fn number_of(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn from(address: &Address, query: &str) -> Result<u64, UriError> {
    let unknown = || UriError::UnknownParameter { address: address.clone() };
    let parameter = address.parameter().ok_or_else(unknown)?;
    let (name, value) = query.split_once('=').ok_or_else(unknown)?;
    if name != parameter {
        return Err(unknown());
    }
    number_of(value).ok_or(UriError::NotANumber { parameter })
}

fn taken(address: &Address) -> String {
    address.parameter().map_or_else(String::new, |parameter| format!(" but ?{parameter}=NUMBER"))
}

/// Returns what to say of a place that has no form: the form that needs the fewest changes to be meant by it.
fn misspelled(place: &str) -> UriError {
    let given: Vec<_> = place.split('/').collect();
    let filled = FORMS.map(|form| {
        let parts = form.split('/').enumerate();
        // What is up to the client is right as it is, if it can be right at all.
        let parts = parts.map(|(index, part)| match given.get(index) {
            Some(given) if part.starts_with('{') && is_name(given) => given,
            _ => part,
        });
        parts.collect::<Vec<_>>().join("/")
    });
    let nearest = filled.into_iter().map(|form| (distance(place, &form), form)).min();
    match nearest.filter(|(changes, form)| *changes <= form.len() / 3) {
        Some((_, nearest)) => UriError::Misspelled { nearest },
        None => UriError::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(number: u32, stream: OutputStream) -> Address {
        Address::Output { workspace: "909b0d24ac61".to_owned(), number, stream }
    }

    /// Catches a name that is not understood, or that leads to something else than it says.
    #[test]
    fn names_are_taken_apart_and_put_together() {
        let id = "909b0d24ac61".to_owned();
        for (text, address, from) in [
            ("pyro://workspaces", Address::Workspaces, None),
            ("pyro://workspaces/909b0d24ac61", Address::Workspace(id.clone()), None),
            ("pyro://workspaces/web-1.test", Address::Workspace("web-1.test".to_owned()), None),
            ("pyro://workspaces/909b0d24ac61/logs/3/stdout", output(3, OutputStream::Stdout), None),
            (
                "pyro://workspaces/909b0d24ac61/logs/3/stderr?offset=9",
                output(3, OutputStream::Stderr),
                Some(9),
            ),
            (
                "pyro://workspaces/909b0d24ac61/shells/78cd/screen",
                Address::Screen { workspace: id, shell: "78cd".to_owned() },
                None,
            ),
            ("pyro://log", Address::Log, None),
            ("pyro://log?since=18446744073709551615", Address::Log, Some(u64::MAX)),
        ] {
            assert_eq!(Uri::parse(text), Ok(Uri { address: address.clone(), from }), "{text}");
            assert_eq!(text.split('?').next(), Some(address.to_string().as_str()));
        }
    }

    /// Catches a name that leads out of its workspace, or is taken although it means nothing.
    #[test]
    fn hostile_names_are_refused() {
        let long = format!("pyro://workspaces/{}", "a".repeat(1 << 20));
        for text in [
            "",
            "pyro:",
            "pyro://",
            "pyro:///workspaces",
            "PYRO://workspaces",
            "file:///etc/passwd",
            "pyro://workspaces/",
            "pyro://workspaces/..",
            "pyro://workspaces/.",
            "pyro://workspaces/a/../b",
            "pyro://workspaces/%2e%2e",
            "pyro://workspaces/a%2flogs",
            "pyro://workspaces/a b",
            "pyro://workspaces/a\0b",
            "pyro://workspaces/a\n",
            "pyro://workspaces/é",
            "pyro://workspaces/a#b",
            "pyro://user@workspaces",
            "pyro://workspaces?offset=1",
            "pyro://workspaces/a?",
            "pyro://workspaces/a/logs/-1/stdout",
            "pyro://workspaces/a/logs/+1/stdout",
            "pyro://workspaces/a/logs/4294967296/stdout",
            "pyro://workspaces/a/logs//stdout",
            "pyro://workspaces/a/logs/1/stdout.follow",
            "pyro://workspaces/a/logs/1/stdout/",
            "pyro://workspaces/a/logs/1/stdout?offset=-1",
            "pyro://workspaces/a/logs/1/stdout?offset=18446744073709551616",
            "pyro://workspaces/a/logs/1/stdout?offset=1&offset=2",
            "pyro://workspaces/a/logs/1/stdout?since=1",
            "pyro://workspaces/a/logs/1/stdout?offset=",
            "pyro://workspaces/a/shells/../screen",
            "pyro://workspaces/a/files/etc",
            "pyro://log?since=",
            "pyro://log?since=1?since=2",
            &long,
        ] {
            assert!(Uri::parse(text).is_err(), "{text:?}");
        }
    }

    /// Catches an error that does not say what would have been right.
    #[test]
    fn errors_name_what_is_nearest() {
        for (text, expected) in [
            ("pyro://workspace", "did you mean pyro://workspaces?"),
            ("pyro://workspace/909b", "did you mean pyro://workspaces/909b?"),
            ("pyro://workspaces/909b/log/1/stdout", "did you mean pyro://workspaces/909b/logs/1/stdout?"),
            (
                "pyro://workspaces/909b/shells/78/scren",
                "did you mean pyro://workspaces/909b/shells/78/screen?",
            ),
            ("pyro://logs", "did you mean pyro://log?"),
            ("https://example.org/a/long/way/from/here", "there are pyro://workspaces, "),
            ("pyro://log?from=1", "pyro://log takes no parameters but ?since=NUMBER"),
            ("pyro://log?since=soon", "since is a number"),
        ] {
            let error = Uri::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
