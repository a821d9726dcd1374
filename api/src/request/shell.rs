//! Requests about shells.

use pyro_core::RequestId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::log_point::LogPoint;
#[cfg(feature = "clap")]
use crate::request_id::parse_request_id;

const CWD: &str = "/workspace";
const COLS: u16 = 120;
const ROWS: u16 = 30;
const MAX_CHARS: u64 = 65_536;
const SIGNAL: &str = "INT";

fn cwd() -> String {
    CWD.to_owned()
}

const fn cols() -> u16 {
    COLS
}

const fn rows() -> u16 {
    ROWS
}

const fn max_chars() -> u64 {
    MAX_CHARS
}

fn signal_name() -> String {
    SIGNAL.to_owned()
}

const fn yes() -> bool {
    true
}

/// Spells out requests about one shell, which all begin with its workspace and its id.
macro_rules! shell_requests {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
            #[cfg_attr(feature = "clap", derive(clap::Args))]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
                #[cfg_attr(feature = "clap", arg(value_name = "WORKSPACE_ID"))]
                pub workspace_id: String,
                /// Id of the shell, or an unambiguous beginning of it of at least 4 characters
                #[cfg_attr(feature = "clap", arg(value_name = "SHELL_ID"))]
                pub shell_id: String,
                $($(#[$attr])* pub $field: $type,)*
            }
        )+
    };
}

/// Opens a shell on a terminal in a started workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellOpenRequest {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
    #[cfg_attr(feature = "clap", arg(value_name = "WORKSPACE_ID"))]
    pub workspace_id: String,
    /// Directory to begin in, which must exist; a relative one is below /workspace
    #[serde(default = "cwd")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DIRECTORY", default_value = CWD))]
    pub cwd: String,
    /// Width of the terminal in characters, 1 to 65535
    #[serde(default = "cols")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = COLS))]
    #[schemars(range(min = 1))]
    pub cols: u16,
    /// Height of the terminal in characters, 1 to 65535
    #[serde(default = "rows")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = ROWS))]
    #[schemars(range(min = 1))]
    pub rows: u16,
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
    pub request_id: Option<RequestId>,
}

/// Lists the shells of a workspace that are not closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellListRequest {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
    #[cfg_attr(feature = "clap", arg(value_name = "WORKSPACE_ID"))]
    pub workspace_id: String,
}

shell_requests! {
    /// Reads what a shell printed, from a cursor on; reading takes nothing away.
    ShellReadRequest {
        /// Where to begin: 0 or a next_cursor of before; one behind the end begins there
        #[serde(default)]
        #[cfg_attr(feature = "clap", arg(long, value_name = "CURSOR", default_value_t = 0))]
        cursor: u64,
        /// Most characters to return, 1 or more
        #[serde(default = "max_chars")]
        #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = MAX_CHARS))]
        #[schemars(range(min = 1))]
        max_chars: u64,
        /// Leave out what steers the terminal: text and line ends only
        #[serde(default)]
        #[cfg_attr(feature = "clap", arg(long))]
        plain: bool,
        /// Wait until nothing was printed for so long, in milliseconds up to 30000, but never longer than 30 seconds
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "clap", arg(long, value_name = "MS"))]
        wait_for_idle_ms: Option<u64>,
        /// As it was right after the event of this number or at this time
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "clap", arg(long, value_name = "SEQ|TIME", conflicts_with = "wait_for_idle_ms"))]
        at: Option<LogPoint>,
    }

    /// Sends what a shell prints, from a cursor on, until it ends or the client cancels.
    ShellFollowRequest {
        /// Where to begin: 0 or a next_cursor of before
        #[serde(default)]
        #[cfg_attr(feature = "clap", arg(long, value_name = "CURSOR", default_value_t = 0))]
        cursor: u64,
    }

    /// Types text into a running shell.
    ShellWriteRequest {
        /// The text
        #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT", allow_hyphen_values = true))]
        input: String,
        /// Type Enter behind it
        #[serde(default = "yes")]
        #[cfg_attr(feature = "clap", arg(long = "no-newline", action = clap::ArgAction::SetFalse,
            help = "Do not type Enter behind it"))]
        append_newline: bool,
        /// Makes a repetition harmless: a second request with the same UUID types nothing
        #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
        request_id: Option<RequestId>,
    }

    /// Sends a signal to a running shell: INT and TERM reach the foreground job, HUP hangs the terminal up, KILL ends the
    /// shell with all that it started.
    ShellSignalRequest {
        /// HUP, INT, TERM or KILL; upper or lower case
        #[serde(default = "signal_name")]
        #[cfg_attr(feature = "clap", arg(long = "signal", value_name = "SIGNAL", default_value = SIGNAL,
            value_parser = ["HUP", "INT", "TERM", "KILL"], ignore_case = true))]
        signal_name: String,
        /// Makes a repetition harmless: a second request with the same UUID sends nothing
        #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
        request_id: Option<RequestId>,
    }

    /// Gives the terminal of a running shell another size.
    ShellResizeRequest {
        /// Width of the terminal in characters, 1 to 65535
        #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
        cols: u16,
        /// Height of the terminal in characters, 1 to 65535
        #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
        rows: u16,
        /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
        #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
        request_id: Option<RequestId>,
    }

    /// Ends a shell if it runs, and forgets it.
    ShellCloseRequest {
        /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
        #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
        request_id: Option<RequestId>,
    }
}

/// Joins a terminal to a running shell: output comes from a cursor on, input and sizes go by their own messages, until
/// the shell ends or the client cancels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShellAttachRequest {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name.
    pub workspace_id: String,
    /// Id of the shell, or an unambiguous beginning of it of at least 4 characters.
    pub shell_id: String,
    /// Where the output begins; `None` for the last 64 KiB of it.
    pub cursor: Option<u64>,
    /// Size of the client's terminal, which the shell gets; `None` leaves it as it is.
    pub size: Option<WindowSize>,
}

/// Size of a client's terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Width.
    pub cols: u16,
    /// Height.
    pub rows: u16,
}
