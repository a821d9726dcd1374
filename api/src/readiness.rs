//! What a starting daemon tells the client that started it.

use std::io::{self, Write};

use crate::error::ApiError;

/// Longest report, in bytes: a client reads no further.
pub(crate) const READINESS_LEN_MAX: u64 = 64 * 1024;

/// The one line that a daemon writes to the pipe it was given: `ready`, or `error: ` and an [`ApiError`] in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The socket takes connections.
    Ready,
    /// It never will.
    Failed(ApiError),
}

impl Readiness {
    /// Writes the line.
    ///
    /// # Errors
    ///
    /// When the client is gone, which is no reason to end.
    pub fn report(&self, mut to: impl Write) -> io::Result<()> {
        let line = match self {
            Self::Ready => "ready\n".to_owned(),
            Self::Failed(error) => format!("error: {}\n", serde_json::to_string(error)?),
        };
        to.write_all(line.as_bytes())
    }

    /// Reads the line; `None` when it is something else, such as nothing because the daemon died.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.strip_suffix('\n')?;
        match line.strip_prefix("error: ") {
            None => (line == "ready").then_some(Self::Ready),
            Some(error) => serde_json::from_str(error).ok().map(Self::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn reports_are_read_back_and_torn_ones_are_not() {
        let failed = Readiness::Failed(ApiError::new(ErrorCode::DaemonRunning, "already running as pid 7\n"));
        for report in [Readiness::Ready, failed] {
            let mut line = Vec::new();
            report.report(&mut line).unwrap();
            let line = String::from_utf8(line).unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert_eq!(Readiness::parse(&line), Some(report));
            assert_eq!(Readiness::parse(&line[..line.len() - 1]), None);
        }
    }
}
