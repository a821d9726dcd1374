//! Resources: what there is to read, and how it is read.

use std::collections::BTreeMap;

use pyro_api::{
    ApiError, CancelToken, DaemonStatusRequest, ErrorCode, Incoming, LogEnd, LogPoint, LogRequest,
    ShellListRequest, TreeReadRequest, WorkspaceListRequest, WorkspaceObject, WorkspaceStatusRequest,
};
use rmcp::ErrorData;
use rmcp::model::{ListResourcesResult, Resource, ResourceContents, ResourceTemplate};
use serde::Serialize;
use serde_json::json;

use crate::call::{KEPT_BYTES, Way};
use crate::settings::Profile;
use crate::uri::{Address, Uri};

/// Resources that are listed at once.
const PAGE_LEN: usize = 100;

/// Most workspaces that are read at once.
const WORKSPACES_MAX: usize = 200;

/// Most events that are read at once.
const EVENTS_MAX: u64 = 100;

/// Most bytes of events that are read at once, besides a first one that is longer.
const EVENTS_BYTES: usize = 128 * 1024;

/// Least characters of an id that stand for all of it.
const ID_LEN_MIN: usize = 4;

/// Most shells that an error names.
const SHELLS_NAMED_MAX: usize = 10;

/// Most bytes of a screen: more than the largest one has that is not all in colour.
const SCREEN_BYTES: u64 = 256 * 1024;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// Why a resource cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResourceError {
    /// There is none of that name.
    #[error("{0}")]
    Unknown(String),
    /// The daemon refused or failed.
    #[error(transparent)]
    Daemon(#[from] ApiError),
}

impl ResourceError {
    /// Returns what the client is told.
    pub(crate) fn told(&self, uri: &str) -> ErrorData {
        let data = Some(json!({"uri": uri}));
        match self {
            Self::Unknown(what) => ErrorData::resource_not_found(what.clone(), data),
            Self::Daemon(error) => {
                let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
                let message = format!("{}{hint}", error.message);
                match error.code {
                    ErrorCode::UnknownWorkspace
                    | ErrorCode::UnknownExec
                    | ErrorCode::UnknownShell
                    | ErrorCode::AmbiguousId
                    | ErrorCode::Expired => ErrorData::resource_not_found(message, data),
                    ErrorCode::InvalidArgument | ErrorCode::LimitReached => {
                        ErrorData::invalid_params(message, data)
                    }
                    _ => ErrorData::internal_error(message, data),
                }
            }
        }
    }
}

impl Profile {
    /// Tells whether the resources of this profile come and go.
    pub(crate) fn lists_workspaces(self) -> bool {
        self.shows(&Address::Workspaces)
    }

    /// Tells whether a resource is one of this profile: those that its tools deal with.
    fn shows(self, address: &Address) -> bool {
        match address {
            Address::Log => true,
            Address::Screen { .. } => self.has("shell_open"),
            Address::Workspaces | Address::Workspace(_) | Address::Output { .. } => {
                self.has("workspace_create")
            }
        }
    }
}

/// Takes the name of a resource apart.
///
/// # Errors
///
/// When there is none of that name in this profile.
pub(crate) fn resolve(uri: &str, profile: Profile) -> Result<Uri, ResourceError> {
    let parsed = Uri::parse(uri).map_err(|error| ResourceError::Unknown(error.to_string()))?;
    if profile.shows(&parsed.address) {
        return Ok(parsed);
    }
    let message =
        format!("the profile {profile} has no {}; `pyro mcp serve --profile` gives others", parsed.address);
    Err(ResourceError::Unknown(message))
}

/// Returns the resource by the whole ids of its workspace and shell.
///
/// # Errors
///
/// When there are no such ones, or no daemon can be reached.
pub(crate) fn located(address: &Address, way: &Way, cancel: &CancelToken) -> Result<Address, ApiError> {
    let workspace_id = address.workspace().map(str::to_owned);
    Ok(match (address, workspace_id) {
        (Address::Screen { shell, .. }, Some(workspace_id)) => {
            let list = way.look(&ShellListRequest { workspace_id }, cancel)?;
            let shell = whole_id(shell, list.shells.iter().map(|shell| shell.shell_id.as_str()))?;
            Address::Screen { workspace: list.workspace_id, shell }
        }
        (Address::Workspace(_) | Address::Output { .. }, Some(workspace_id)) => {
            let status = way.look(&WorkspaceStatusRequest { workspace_id, at: None }, cancel)?;
            address.clone().of(status.workspace_id)
        }
        _ => address.clone(),
    })
}

/// Returns the id of a shell that is meant by it or by its beginning.
fn whole_id<'a>(meant: &str, ids: impl Iterator<Item = &'a str> + Clone) -> Result<String, ApiError> {
    let mut matching = ids.clone().filter(|id| meant.len() >= ID_LEN_MIN && id.starts_with(meant));
    match (matching.next(), matching.next()) {
        (Some(id), None) => Ok(id.to_owned()),
        (Some(_), Some(_)) => {
            let message = format_args!("more than one shell id begins with {meant}");
            Err(ApiError::new(ErrorCode::AmbiguousId, message))
        }
        (None, _) => {
            let error = ApiError::new(ErrorCode::UnknownShell, format_args!("there is no shell {meant}"));
            let ids = ids.take(SHELLS_NAMED_MAX).collect::<Vec<_>>().join(", ");
            let known = if ids.is_empty() { "none; shell_open opens one".to_owned() } else { ids };
            Err(error.with_hint(format_args!("existing: {known}")))
        }
    }
}

/// Returns the forms of names.
pub(crate) fn templates(profile: Profile) -> Vec<ResourceTemplate> {
    let id = || "{id}".to_owned();
    let told = |address: Address, form: &str, name: &str, kind: &str, description: &str| {
        let template = ResourceTemplate::new(form, name).with_mime_type(kind).with_description(description);
        profile.shows(&address).then_some(template)
    };
    let screen = Address::Screen { workspace: id(), shell: id() };
    let output = "What a command of the workspace printed, n being its number (`sequence`): all of it, or beginning and \
        end. With offset, what follows that byte.";
    [
        told(
            Address::Workspace(id()),
            "pyro://workspaces/{id}",
            "workspace",
            JSON,
            "What a workspace is doing, and what its last command was.",
        ),
        told(
            Address::Workspace(id()),
            "pyro://workspaces/{id}/logs/{n}/stdout{?offset}",
            "stdout",
            TEXT,
            output,
        ),
        told(
            Address::Workspace(id()),
            "pyro://workspaces/{id}/logs/{n}/stderr{?offset}",
            "stderr",
            TEXT,
            output,
        ),
        told(
            screen,
            "pyro://workspaces/{id}/shells/{shell_id}/screen",
            "screen",
            TEXT,
            "What a person would see on the terminal of a shell.",
        ),
        told(
            Address::Log,
            "pyro://log{?since}",
            "log",
            JSON,
            "Events of the log from the one with the number since on, and where to read on.",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns a page of the resources that are there. A cursor is the id of the last workspace of the page before.
///
/// # Errors
///
/// When no daemon can be reached.
pub(crate) fn list(
    way: &Way,
    profile: Profile,
    cursor: Option<&str>,
    cancel: &CancelToken,
) -> Result<ListResourcesResult, ApiError> {
    let mut resources = Vec::new();
    if cursor.is_none() {
        resources.extend(fixed(profile));
    }
    let mut next_cursor = None;
    if profile.lists_workspaces() {
        let workspaces = way.look(&WorkspaceListRequest { at: None }, cancel)?.workspaces;
        let by_id = workspaces.into_iter().map(|workspace| (workspace.workspace_id.clone(), workspace));
        let (workspaces, next) = page(by_id.collect(), cursor);
        resources.extend(workspaces.iter().map(listed));
        next_cursor = next;
    }
    let mut page = ListResourcesResult::with_all_items(resources);
    page.next_cursor = next_cursor;
    Ok(page)
}

/// Returns those that follow a cursor, by their ids, and the cursor of the next page; `None` when there is none.
fn page<Item>(mut all: BTreeMap<String, Item>, cursor: Option<&str>) -> (Vec<Item>, Option<String>) {
    if let Some(cursor) = cursor {
        all.retain(|id, _| id.as_str() > cursor);
    }
    let next_cursor = if all.len() > PAGE_LEN { all.keys().nth(PAGE_LEN - 1).cloned() } else { None };
    (all.into_values().take(PAGE_LEN).collect(), next_cursor)
}

fn fixed(profile: Profile) -> impl Iterator<Item = Resource> {
    let all = [
        (Address::Workspaces, "workspaces", "All workspaces, and what they are doing."),
        (Address::Log, "log", "The last events of the log, and where to read on."),
    ];
    let shown = all.into_iter().filter(move |(address, ..)| profile.shows(address));
    shown.map(|(address, name, description)| {
        Resource::new(address.to_string(), name).with_mime_type(JSON).with_description(description)
    })
}

fn listed(workspace: &WorkspaceObject) -> Resource {
    let id = &workspace.workspace_id;
    let name = workspace.name.as_ref().unwrap_or(id);
    let description = format!("A workspace of {}, {}.", workspace.environment, workspace.state);
    Resource::new(Address::Workspace(id.clone()).to_string(), name)
        .with_mime_type(JSON)
        .with_description(description)
}

/// Reads a resource, or as much of it as one answer takes.
///
/// # Errors
///
/// When it is not there, or the daemon fails.
pub(crate) fn read(
    way: &Way,
    uri: &str,
    parsed: &Uri,
    cancel: &CancelToken,
) -> Result<ResourceContents, ApiError> {
    let Uri { address, from } = parsed;
    let (text, kind) = match address {
        Address::Workspaces => (workspaces(way, cancel)?, JSON),
        Address::Workspace(id) => {
            let request = WorkspaceStatusRequest { workspace_id: id.clone(), at: None };
            (pretty(&way.look(&request, cancel)?)?, JSON)
        }
        Address::Output { .. } => (output(way, address, *from, cancel)?, TEXT),
        Address::Screen { .. } => {
            let (bytes, _) = file(way, &located(address, way, cancel)?, 0, SCREEN_BYTES, cancel)?;
            (String::from_utf8_lossy(&bytes).into_owned(), TEXT)
        }
        Address::Log => (log(way, *from, cancel)?, JSON),
    };
    Ok(ResourceContents::text(text, uri).with_mime_type(kind))
}

fn pretty(value: &impl Serialize) -> Result<String, ApiError> {
    let value = serde_json::to_value(value).map_err(|error| ApiError::new(ErrorCode::Internal, error))?;
    Ok(format!("{value:#}"))
}

fn workspaces(way: &Way, cancel: &CancelToken) -> Result<String, ApiError> {
    let mut list = way.look(&WorkspaceListRequest { at: None }, cancel)?;
    let left_out = list.workspaces.len().saturating_sub(WORKSPACES_MAX);
    // The newest are the last.
    list.workspaces.drain(..left_out);
    let mut list = serde_json::to_value(list).map_err(|error| ApiError::new(ErrorCode::Internal, error))?;
    if left_out > 0 {
        list["left_out"] = format!("{left_out} older ones; resources/list has all of them").into();
    }
    pretty(&list)
}

/// Reads a part of a file of the tree, and returns how long all of it is.
fn file(
    way: &Way,
    address: &Address,
    offset: u64,
    len_bytes: u64,
    cancel: &CancelToken,
) -> Result<(Vec<u8>, u64), ApiError> {
    let (workspace, path) = address.file().unwrap_or_default();
    let request = TreeReadRequest { workspace_id: workspace.to_owned(), path, offset, len_bytes };
    let mut bytes = Vec::new();
    let part = way.link().call(&request, cancel, |incoming| {
        if let Incoming::Output(_, piece) = incoming {
            bytes.extend(piece);
        }
    })?;
    Ok((bytes, part.file_bytes))
}

/// Returns what a command printed: all of it, or beginning and end; or what follows an offset. What is missing is said, with
/// the names under which it can be read.
fn output(
    way: &Way,
    address: &Address,
    offset: Option<u64>,
    cancel: &CancelToken,
) -> Result<String, ApiError> {
    let kept = KEPT_BYTES as u64;
    let begin = offset.unwrap_or(0);
    let (mut bytes, len) = file(way, address, begin, 2 * kept, cancel)?;
    let end = begin.min(len) + bytes.len() as u64;
    if end >= len {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    if offset.is_some() {
        let whole = whole_len(&bytes);
        bytes.truncate(whole);
        let text = String::from_utf8_lossy(&bytes);
        let next = begin + whole as u64;
        let rest = len - next;
        return Ok(format!("{text}\n[{rest} more bytes follow; read {address}?offset={next}]\n"));
    }
    bytes.truncate(KEPT_BYTES);
    bytes.truncate(whole_len(&bytes));
    let (tail, len) = file(way, address, len - kept, kept, cancel)?;
    let tail = &tail[continuation_len(&tail)..];
    let missing = len.saturating_sub((bytes.len() + tail.len()) as u64);
    let next = bytes.len();
    let (head, tail) = (String::from_utf8_lossy(&bytes), String::from_utf8_lossy(tail));
    Ok(format!("{head}\n[{missing} bytes are left out here; they begin at {address}?offset={next}]\n{tail}"))
}

/// Returns the length of some text without an unfinished character at its end, in bytes. There always is a whole one before it,
/// or something that is no text.
fn whole_len(bytes: &[u8]) -> usize {
    let cut = bytes.utf8_chunks().last().map_or(0, |chunk| {
        let rest = chunk.invalid();
        let is_unfinished = std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
        if is_unfinished { rest.len() } else { 0 }
    });
    bytes.len() - cut
}

/// Returns how many bytes at the beginning can only be the end of a character, at most 3.
fn continuation_len(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count()
}

/// Returns events as JSON, with the number to read on from.
fn log(way: &Way, since: Option<u64>, cancel: &CancelToken) -> Result<String, ApiError> {
    let head = way.look(&DaemonStatusRequest {}, cancel)?.head_seq;
    let first = since.unwrap_or_else(|| (head + 1).saturating_sub(EVENTS_MAX)).max(1);
    let last = head.min(first.saturating_add(EVENTS_MAX - 1));
    let mut events = Vec::new();
    if first <= last {
        let request = LogRequest {
            since: Some(LogPoint::after(first - 1)),
            until: Some(LogPoint::after(last - 1)),
            ..LogRequest::default()
        };
        let _end: LogEnd = way.link().call(&request, cancel, |incoming| {
            if let Incoming::Event(event) = incoming {
                events.push(event);
            }
        })?;
    }
    let (mut told, mut next, mut len) = (Vec::new(), first, 0);
    for event in events {
        let value =
            serde_json::to_value(&event).map_err(|error| ApiError::new(ErrorCode::Internal, error))?;
        len += value.to_string().len();
        // One event is told however long it is, or nobody would get beyond it.
        if len > EVENTS_BYTES && !told.is_empty() {
            break;
        }
        next = event.seq + 1;
        told.push(value);
    }
    let more = head.saturating_sub(next - 1);
    pretty(&json!({"events": told, "next": format!("pyro://log?since={next}"), "more": more}))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a character that is cut in two, and bytes that are no text and hold up those behind them.
    #[test]
    fn characters_stay_whole() {
        for (bytes, expected) in [
            (&b"abc"[..], 3),
            ("ab\u{e9}".as_bytes(), 4),
            (&"ab\u{e9}".as_bytes()[..3], 2),
            (&"\u{1f600}".as_bytes()[..3], 0),
            (b"ab\xff", 3),
            (b"\xff\xfe", 2),
            (b"", 0),
        ] {
            assert_eq!(whole_len(bytes), expected, "{bytes:?}");
        }
        assert_eq!(continuation_len(&"\u{1f600}x".as_bytes()[1..]), 3);
        assert_eq!(continuation_len(b"x"), 0);
    }

    /// Catches an item that no page has, or two have, also when one goes between two pages.
    #[test]
    fn pages_follow_on_each_other() {
        let all =
            |len: usize| (0..len).map(|number| (format!("{number:04}"), number)).collect::<BTreeMap<_, _>>();
        for len in [0, 1, PAGE_LEN, PAGE_LEN + 1, 3 * PAGE_LEN] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let (items, next) = page(all(len), cursor.as_deref());
                seen.extend(items);
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (0..len).collect::<Vec<_>>(), "{len}");
        }
        let mut fewer = all(2 * PAGE_LEN);
        let (_, next) = page(fewer.clone(), None);
        fewer.remove(next.as_ref().unwrap());
        let (items, _) = page(fewer, next.as_deref());
        assert_eq!((items.first(), items.len()), (Some(&PAGE_LEN), PAGE_LEN));
    }

    /// Catches a shell that is taken for another one, and an error that does not say which there are.
    #[test]
    fn shells_are_meant_by_the_beginning_of_their_ids() {
        let ids = ["78cdf2e8f1b1", "78cd00000000", "909b0d24ac61"];
        let meant = |text: &str| {
            whole_id(text, ids.iter().copied()).map_err(|error| error.hint.unwrap_or(error.message))
        };
        assert_eq!(meant("909b"), Ok(ids[2].to_owned()));
        assert_eq!(meant(ids[0]), Ok(ids[0].to_owned()));
        assert_eq!(meant("78cd"), Err("more than one shell id begins with 78cd".to_owned()));
        assert_eq!(meant("909"), Err(format!("existing: {}", ids.join(", "))));
        let none = whole_id("909b", std::iter::empty()).unwrap_err();
        assert_eq!(none.hint.as_deref(), Some("existing: none; shell_open opens one"));
    }

    /// Catches a profile that shows what its tools do not deal with.
    #[test]
    fn profiles_show_what_their_tools_deal_with() {
        let forms =
            |profile| templates(profile).into_iter().map(|template| template.name).collect::<Vec<_>>();
        assert_eq!(forms(Profile::VmRun), ["log"]);
        assert_eq!(forms(Profile::WorkspaceCore), ["workspace", "stdout", "stderr", "log"]);
        assert_eq!(forms(Profile::WorkspaceFull), ["workspace", "stdout", "stderr", "screen", "log"]);
        let error = resolve("pyro://workspaces/a", Profile::VmRun).unwrap_err().told("pyro://workspaces/a");
        assert_eq!(error.code.0, -32002);
        assert!(error.message.contains("--profile"), "{}", error.message);
    }
}
