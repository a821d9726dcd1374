//! Which events of the log somebody wants to see.

use std::collections::VecDeque;

use pyro_api::{ApiError, ErrorCode, LogPoint, LogRequest, face_of};
use pyro_core::{Actor, Envelope, Event, Face, Seq, WorkspaceId};
use pyro_store::{ReadError, Reader};

/// Events that are looked through at once when the last ones are wanted, at first and at most: few when most events
/// match, and not too many to be held.
const WINDOW_LEN_MIN: u64 = 256;
const WINDOW_LEN_MAX: u64 = 1 << 16;

/// The filters of a [`LogRequest`], all of which must let an event pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    since: Option<LogPoint>,
    until: Option<LogPoint>,
    workspace: Option<WorkspaceId>,
    kinds: Vec<KindPattern>,
    actor: Option<ActorPattern>,
}

impl Selection {
    /// Takes the filters of a request over; `workspace` is the one that its id means.
    pub(crate) fn new(request: &LogRequest, workspace: Option<WorkspaceId>) -> Result<Self, ApiError> {
        Ok(Self {
            since: request.since,
            until: request.until,
            workspace,
            kinds: request.kinds.iter().map(|kind| KindPattern::parse(kind)).collect::<Result<_, _>>()?,
            actor: request.actor.as_deref().map(ActorPattern::parse).transpose()?,
        })
    }

    /// Returns the position before which there is nothing to look for. Whoever names a position wants all from there on.
    pub(crate) fn first(&self, reader: &Reader) -> Result<Seq, ReadError> {
        let first = reader.first();
        match self.since {
            Some(LogPoint::Seq(seq)) if seq.0 > 0 && seq < first => Err(ReadError::Compacted { first }),
            Some(LogPoint::Seq(seq)) => Ok(seq.max(first)),
            Some(LogPoint::Time(_)) | None => Ok(first),
        }
    }

    /// Returns the position behind which there is nothing to look for, of those up to `head`.
    pub(crate) fn last(&self, head: Seq) -> Seq {
        match self.until {
            Some(LogPoint::Seq(seq)) => seq.min(head),
            Some(LogPoint::Time(_)) | None => head,
        }
    }

    /// Tells whether an event is wanted.
    pub(crate) fn contains(&self, envelope: &Envelope) -> bool {
        self.since.is_none_or(|since| match since {
            LogPoint::Seq(seq) => envelope.seq >= seq,
            LogPoint::Time(time) => envelope.at >= time,
        }) && self.until.is_none_or(|until| match until {
            LogPoint::Seq(seq) => envelope.seq <= seq,
            LogPoint::Time(time) => envelope.at <= time,
        }) && self.workspace.is_none_or(|workspace| envelope.event.workspace() == Some(workspace))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.matches(&envelope.event)))
            && self.actor.as_ref().is_none_or(|actor| actor.matches(&envelope.actor))
    }

    /// Reads the wanted events from one position to another.
    pub(crate) fn read(
        &self,
        reader: &Reader,
        from: Seq,
        last: Seq,
    ) -> impl Iterator<Item = Result<Envelope, ReadError>> {
        let (all, own) = match self.workspace {
            Some(workspace) => (None, Some(reader.read_workspace(workspace, from))),
            None => (Some(reader.read(from)), None),
        };
        let envelopes = all.into_iter().flatten().chain(own.into_iter().flatten());
        envelopes
            .take_while(move |read| read.as_ref().map_or(true, |envelope| envelope.seq <= last))
            .filter(|read| read.as_ref().map_or(true, |envelope| self.contains(envelope)))
    }

    /// Returns the position of the first of the last `limit` wanted events up to `head`, and the one behind them all when
    /// there are none.
    pub(crate) fn first_of_last(&self, reader: &Reader, limit: u64, head: Seq) -> Result<Seq, ReadError> {
        let (first, last) = (self.first(reader)?, self.last(head));
        let behind = last.next();
        if limit == 0 || first > last {
            return Ok(behind);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.workspace.is_some() {
            return Ok(self.last_seqs(reader, (first, last), limit)?.front().copied().unwrap_or(behind));
        }
        let (mut earliest, mut wanted, mut end, mut window) = (behind, limit, last, WINDOW_LEN_MIN);
        while wanted > 0 && end >= first {
            let begin = Seq((end.0 + 1).saturating_sub(window)).max(first);
            let found = self.last_seqs(reader, (begin, end), wanted)?;
            earliest = found.front().copied().unwrap_or(earliest);
            wanted -= found.len();
            end = Seq(begin.0 - 1);
            window = (window * 4).min(WINDOW_LEN_MAX);
        }
        Ok(earliest)
    }

    fn last_seqs(
        &self,
        reader: &Reader,
        (from, last): (Seq, Seq),
        limit: usize,
    ) -> Result<VecDeque<Seq>, ReadError> {
        let mut seqs = VecDeque::new();
        for envelope in self.read(reader, from, last) {
            if seqs.len() == limit {
                seqs.pop_front();
            }
            seqs.push_back(envelope?.seq);
        }
        Ok(seqs)
    }
}

/// Kinds of events.
#[derive(Clone, Debug, PartialEq, Eq)]
enum KindPattern {
    Exactly(&'static str),
    /// All that begin so.
    Beginning(String),
}

impl KindPattern {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let (beginning, all) = text.strip_suffix('*').map_or((text, false), |beginning| (beginning, true));
        let mut kinds = Event::KINDS.iter().copied();
        let known = if all {
            kinds.any(|kind| kind.starts_with(beginning)).then(|| Self::Beginning(beginning.to_owned()))
        } else {
            kinds.find(|kind| *kind == text).map(Self::Exactly)
        };
        known.ok_or_else(|| {
            let nearest = nearest_kind(beginning);
            ApiError::new(ErrorCode::InvalidArgument, format_args!("there is no kind of event {text:?}"))
                .with_hint(format_args!("the nearest one is {nearest}"))
        })
    }

    fn matches(&self, event: &Event) -> bool {
        match self {
            Self::Exactly(kind) => event.kind() == *kind,
            Self::Beginning(beginning) => event.kind().starts_with(beginning),
        }
    }
}

fn nearest_kind(text: &str) -> &'static str {
    let kinds = Event::KINDS.iter().copied();
    kinds.min_by_key(|kind| distance(text, kind)).expect("there are kinds of events")
}

/// Returns how many characters must be put in, taken out or exchanged to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, character) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, candidate) in other.iter().enumerate() {
            let exchanged = diagonal + usize::from(character != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ActorPattern {
    Face(Face),
    Uid(u32),
    /// What a client calls itself, with or without its version.
    Client(String),
}

impl ActorPattern {
    fn parse(text: &str) -> Result<Self, ApiError> {
        if let Some(face) = face_of(text) {
            return Ok(Self::Face(face));
        }
        let Some(uid) = text.strip_prefix("uid:") else { return Ok(Self::Client(text.to_owned())) };
        let error = |_| {
            let message = format_args!("a user is uid: and a number, not {text:?}");
            ApiError::new(ErrorCode::InvalidArgument, message)
        };
        uid.parse().map(Self::Uid).map_err(error)
    }

    fn matches(&self, actor: &Actor) -> bool {
        match self {
            Self::Face(face) => actor.face == *face,
            Self::Uid(uid) => actor.uid == *uid,
            Self::Client(client) => {
                let name = actor.client.split_once('/').map(|(name, _)| name);
                actor.client == *client || name == Some(client)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pyro_core::{Cause, EnvironmentRemoved, ExecNumber, ExecStarted, Timestamp};
    use pyro_store::{Draft, EventLog, Options};

    use super::*;

    fn workspace(number: u64) -> WorkspaceId {
        WorkspaceId::from_bytes([u8::try_from(number).unwrap(), 0, 0, 0, 0, 0])
    }

    /// Every third event is about the host, the others are about ten workspaces in turn; two faces, two users.
    fn draft(number: u64) -> Draft {
        let event = if number.is_multiple_of(3) {
            Event::EnvironmentRemoved(EnvironmentRemoved { directory: number.to_string() })
        } else {
            let (workspace, exec) = (workspace(number % 10), ExecNumber(1));
            Event::ExecStarted(ExecStarted { workspace, exec, guest_pid: 1 })
        };
        let face = if number.is_multiple_of(2) { Face::Cli } else { Face::Mcp };
        let client = if number.is_multiple_of(5) { "agent/1.0" } else { "pyro/2.5.0" }.to_owned();
        let uid = u32::try_from(number % 7).unwrap();
        let actor = Actor { face, uid, pid: 1, client };
        Draft { at: Timestamp(number * 10), actor, cause: Cause::Observation, event }
    }

    fn log(dir: &std::path::Path, len: u64) -> EventLog {
        let log = EventLog::open(dir, Options::default()).unwrap();
        log.append((1..=len).map(draft).collect()).unwrap();
        log
    }

    fn seqs(selection: &Selection, reader: &Reader, from: Seq) -> Vec<u64> {
        let last = selection.last(reader.head().seq);
        selection.read(reader, from, last).map(|envelope| envelope.unwrap().seq.0).collect()
    }

    fn requests() -> Vec<(LogRequest, Option<WorkspaceId>)> {
        let time = |at| Some(LogPoint::Time(Timestamp(at)));
        let seq = |seq| Some(LogPoint::Seq(Seq(seq)));
        let actor = |actor: &str| LogRequest { actor: Some(actor.to_owned()), ..LogRequest::default() };
        let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let all = LogRequest::default();
        vec![
            (all.clone(), None),
            (LogRequest { since: seq(0), until: seq(0), ..all.clone() }, None),
            (LogRequest { since: seq(1995), ..all.clone() }, None),
            (LogRequest { since: seq(5000), ..all.clone() }, None),
            (LogRequest { since: time(105), until: time(140), ..all.clone() }, None),
            (LogRequest { since: seq(7), until: time(140), ..all.clone() }, Some(workspace(1))),
            (LogRequest { kinds: kinds(&["exec_started", "env*"]), ..all.clone() }, None),
            (LogRequest { kinds: kinds(&["environment_*"]), until: seq(700), ..all.clone() }, None),
            (LogRequest { kinds: kinds(&["shell_*"]), ..all }, None),
            (actor("mcp"), Some(workspace(2))),
            (actor("uid:3"), None),
            (actor("agent"), None),
            (actor("agent/1.0"), None),
            (actor("age"), None),
        ]
    }

    /// What the filters mean, said once more without any shortcut.
    fn is_wanted(request: &LogRequest, workspace: Option<WorkspaceId>, number: u64) -> bool {
        let Draft { at, actor, event, .. } = draft(number);
        let after = |point: Option<LogPoint>, or| match point {
            Some(LogPoint::Seq(seq)) => number.cmp(&seq.0),
            Some(LogPoint::Time(time)) => at.cmp(&time),
            None => or,
        };
        let kind = event.kind();
        after(request.since, std::cmp::Ordering::Equal).is_ge()
            && after(request.until, std::cmp::Ordering::Equal).is_le()
            && (workspace.is_none() || event.workspace() == workspace)
            && (request.kinds.is_empty()
                || request.kinds.iter().any(|wanted| kind.starts_with(wanted.trim_end_matches('*'))))
            && match request.actor.as_deref() {
                Some("mcp") => actor.face == Face::Mcp,
                Some("uid:3") => actor.uid == 3,
                Some("agent" | "agent/1.0") => actor.client == "agent/1.0",
                Some(_) => false,
                None => true,
            }
    }

    /// Catches a filter that lets too much or too little pass, alone and with others, and a wrong beginning of the last N.
    #[test]
    fn filters_and_the_last_of_what_they_leave() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), 2000);
        let reader = log.reader();
        for (request, workspace) in requests() {
            let selection = Selection::new(&request, workspace).unwrap();
            let expected: Vec<_> =
                (1..=2000).filter(|number| is_wanted(&request, workspace, *number)).collect();
            let first = selection.first(&reader).unwrap();
            assert_eq!(seqs(&selection, &reader, first), expected, "{request:?}");
            for limit in [0, 1, 2, 50, 700, u64::MAX] {
                let first = selection.first_of_last(&reader, limit, Seq(2000)).unwrap();
                let kept = expected.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
                assert_eq!(
                    seqs(&selection, &reader, first),
                    expected[kept..],
                    "the last {limit} of {request:?}"
                );
            }
        }
    }

    #[test]
    fn a_wrong_kind_is_told_the_nearest_one() {
        for (wrong, nearest) in [
            ("exec_exitd", "exec_exited"),
            ("shell_open", "shell_lost"),
            ("workspace_create", "workspace_created"),
            ("sinc_*", "sync_lost"),
            ("Unknown", "unknown"),
        ] {
            let request = LogRequest { kinds: vec![wrong.to_owned()], ..LogRequest::default() };
            let error = Selection::new(&request, None).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            assert_eq!(error.hint, Some(format!("the nearest one is {nearest}")), "{wrong}");
        }
        let request = LogRequest { actor: Some("uid:x".to_owned()), ..LogRequest::default() };
        assert_eq!(Selection::new(&request, None).unwrap_err().code, ErrorCode::InvalidArgument);
    }
}
