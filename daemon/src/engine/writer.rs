//! The writer: what the engine does with a group of submissions, one after the other.

use std::collections::HashSet;
use std::sync::Arc;

use pyro_core::{
    Action, Actor, Cause, Command, Envelope, Event, Rejection, RequestId, State, Timestamp, decide, evolve,
    met, react,
};
use pyro_store::{AppendError, Draft, EventLog, ReadError, Reader};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{Origin, Outcome, Refusal};
use crate::checkpoints::Saver;
use crate::clock::Clock;
use crate::follower::Recent;

/// Submissions of one group: bounds the time between an append and its replies.
const GROUP_LEN_MAX: usize = 256;
/// Envelopes kept for followers that are a little behind; those further behind read the log.
pub(super) const BROADCAST_LEN: usize = 4096;

/// A command on its way to the writer.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) command: Command,
    pub(crate) origin: Origin,
    pub(crate) reply: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// What the writer publishes.
#[derive(Debug)]
pub(crate) struct Outlets {
    /// The state after the last durable event.
    pub(crate) state: watch::Receiver<Arc<State>>,
    /// Every durable event.
    pub(crate) envelopes: broadcast::Sender<Arc<Envelope>>,
    pub(crate) recent: Arc<Recent>,
    /// What is to be done, in its order.
    pub(crate) actions: mpsc::UnboundedReceiver<Action>,
    /// Why the log takes nothing more until it is opened anew; `None` while it does.
    pub(crate) broken: watch::Receiver<Option<Arc<AppendError>>>,
}

/// What the writer goes by. The simulation puts wrong functions in these places, to see that they are noticed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) decide: fn(&State, &Command) -> Result<Vec<Event>, Rejection>,
    pub(crate) evolve: fn(&mut State, &Envelope),
    pub(crate) react: fn(&State, &Event) -> Vec<Action>,
    pub(crate) append: fn(&EventLog, Vec<Draft>) -> Result<Vec<Envelope>, AppendError>,
    /// Returns the batch of the first try of a request.
    pub(crate) earlier: fn(&Reader, RequestId) -> Result<Vec<Envelope>, ReadError>,
}

impl Rules {
    /// The right ones.
    pub(crate) const CORE: Self =
        Self { decide, evolve, react, append: EventLog::append, earlier: Reader::request };
}

/// Appends to the log, and publishes what is durable.
///
/// It is as synchronous as the log: whoever calls it decides when, and on which thread.
#[derive(Debug)]
pub(crate) struct Writer {
    rules: Rules,
    log: EventLog,
    clock: Clock,
    /// The daemon as the one who acts.
    daemon: Actor,
    reader: Reader,
    state: State,
    publish: watch::Sender<Arc<State>>,
    envelopes: broadcast::Sender<Arc<Envelope>>,
    recent: Arc<Recent>,
    actions: mpsc::UnboundedSender<Action>,
    saver: Saver,
    broken: watch::Sender<Option<Arc<AppendError>>>,
}

/// A submission that is answered when its group is durable.
///
/// So is a refused one: what it was refused for may have happened in the same group, and never be.
#[derive(Debug)]
struct Decided {
    reply: oneshot::Sender<Result<Outcome, Refusal>>,
    /// How many of the group's events are its own.
    events: Result<usize, Rejection>,
}

/// What a group of submissions comes to before it is durable.
struct Group {
    state: State,
    drafts: Vec<Draft>,
    actions: Vec<Action>,
    decided: Vec<Decided>,
    /// When all of it happened: what is made durable together has one time.
    at: Timestamp,
    requests: HashSet<RequestId>,
}

impl Writer {
    /// Replays what is behind the last checkpoint. The second value receives what is published.
    pub(crate) fn open(
        log: EventLog,
        clock: Clock,
        daemon: Actor,
        rules: Rules,
    ) -> Result<(Self, Outlets), ReadError> {
        let checkpoints = log.checkpoints();
        let reader = log.reader();
        let mut state = checkpoints.latest().unwrap_or_else(|| reader.beginning());
        for envelope in reader.read(state.seq.next()) {
            (rules.evolve)(&mut state, &envelope?);
        }
        // Unbounded, because the rules bound it: an action follows from an event of a live workspace, and limits
        // bound workspaces and their open execs.
        let (actions, performed) = mpsc::unbounded_channel();
        let (publish, published) = watch::channel(Arc::new(state.clone()));
        let envelopes = broadcast::channel(BROADCAST_LEN).0;
        let (breaks, broken) = watch::channel(None);
        let recent = Arc::new(Recent::default());
        let outlets = Outlets {
            state: published,
            envelopes: envelopes.clone(),
            recent: Arc::clone(&recent),
            actions: performed,
            broken,
        };
        let saver = Saver::new(checkpoints);
        let writer = Self {
            rules,
            log,
            clock,
            daemon,
            reader,
            state,
            publish,
            envelopes,
            recent,
            actions,
            saver,
            broken: breaks,
        };
        Ok((writer, outlets))
    }

    /// Serves submissions until nobody can send any.
    pub(crate) fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        let mut waiting = Vec::with_capacity(GROUP_LEN_MAX);
        while submissions.blocking_recv_many(&mut waiting, GROUP_LEN_MAX) > 0 {
            self.write(waiting.drain(..));
        }
    }

    /// Decides submissions in their order, makes what they come to durable at once, and answers them.
    pub(crate) fn write(&mut self, submissions: impl IntoIterator<Item = Submission>) {
        let mut group = self.new_group();
        for submission in submissions {
            if repeats_within(&group, &submission) {
                self.commit(group);
                group = self.new_group();
            }
            self.admit(&mut group, submission);
        }
        self.commit(group);
    }

    fn new_group(&self) -> Group {
        let (at, clock) = self.clock.observe();
        let mut group = Group {
            state: self.state.clone(),
            drafts: Vec::new(),
            actions: Vec::new(),
            decided: Vec::new(),
            at,
            requests: HashSet::new(),
        };
        // A clock that was set is recorded before the first event by it, so that lives can be measured across the jump.
        let origin = Origin { actor: self.daemon.clone(), cause: Cause::Observation };
        let nobody = oneshot::channel().0;
        self.admit(&mut group, Submission { command: Command::RecordClock(clock), origin, reply: nobody });
        group
    }

    fn admit(&self, group: &mut Group, submission: Submission) {
        let Submission { command, origin, reply } = submission;
        match self.earlier(&origin) {
            Ok(Some(outcome)) => return answer(reply, Ok(outcome)),
            Ok(None) => {}
            Err(error) => return answer(reply, Err(error.into())),
        }
        let command = at_time(command, group.at);
        let mut events = match (self.rules.decide)(&group.state, &command) {
            Ok(events) => events,
            Err(rejection) => return group.decided.push(Decided { reply, events: Err(rejection) }),
        };
        if let Cause::Request(id) = origin.cause {
            group.requests.insert(id);
            if events.is_empty() {
                events.extend(met(&command));
            }
        }
        group.decided.push(Decided { reply, events: Ok(events.len()) });
        for event in events {
            group.push(self.rules, &origin, event);
        }
    }

    fn earlier(&self, origin: &Origin) -> Result<Option<Outcome>, ReadError> {
        let Cause::Request(id) = origin.cause else { return Ok(None) };
        let envelopes: Vec<_> = (self.rules.earlier)(&self.reader, id)?
            .into_iter()
            .filter(|envelope| envelope.cause == origin.cause)
            .map(Arc::new)
            .collect();
        Ok(if envelopes.is_empty() { None } else { Some(Outcome::Repeated(envelopes)) })
    }

    fn commit(&mut self, group: Group) {
        let Group { state, drafts, actions, decided, .. } = group;
        let appended =
            if drafts.is_empty() { Ok(Vec::new()) } else { (self.rules.append)(&self.log, drafts) };
        let envelopes = match appended {
            Ok(envelopes) => envelopes,
            Err(error) => {
                tracing::error!(%error, "failed to append to the event log");
                let error = Arc::new(error);
                if is_final(&error) {
                    self.broken.send_replace(Some(Arc::clone(&error)));
                }
                for Decided { reply, .. } in decided {
                    answer(reply, Err(Refusal::Append(Arc::clone(&error))));
                }
                return;
            }
        };
        assert_eq!(
            envelopes.last().map_or(self.state.seq, |envelope| envelope.seq),
            state.seq,
            "the state was folded with the sequence numbers that the log gave"
        );
        if state.seq != self.state.seq {
            self.state = state;
            let published = Arc::new(self.state.clone());
            self.publish.send_replace(Arc::clone(&published));
            self.saver.see(published);
        }
        let mut envelopes = envelopes.into_iter().map(Arc::new);
        for Decided { reply, events } in decided {
            let own: Vec<_> = match events {
                Ok(events) => envelopes.by_ref().take(events).collect(),
                Err(rejection) => {
                    answer(reply, Err(rejection.into()));
                    continue;
                }
            };
            for envelope in &own {
                self.recent.push(Arc::clone(envelope));
                // Nobody may be following; then there is nobody to tell.
                let _followers = self.envelopes.send(Arc::clone(envelope));
            }
            answer(reply, Ok(Outcome::Done(own)));
        }
        for action in actions {
            // The receiver is gone only when the daemon ends; the next one reconciles.
            let _performed = self.actions.send(action);
        }
    }
}

impl Group {
    fn push(&mut self, rules: Rules, origin: &Origin, event: Event) {
        let (at, Origin { actor, cause }) = (self.at, origin.clone());
        let envelope = Envelope { seq: self.state.seq.next(), at, actor, cause, event };
        (rules.evolve)(&mut self.state, &envelope);
        self.actions.extend((rules.react)(&self.state, &envelope.event));
        let Envelope { at, actor, cause, event, .. } = envelope;
        self.drafts.push(Draft { at, actor, cause, event });
    }
}

/// Returns a command as it is at the time of its group, by which the state knows the clock: somebody may have set the
/// clock since the submission read it.
fn at_time(command: Command, at: Timestamp) -> Command {
    if let Command::ReapExpired { .. } = command { Command::ReapExpired { now: at } } else { command }
}

/// Tells whether the log takes nothing more until it is opened anew.
const fn is_final(error: &AppendError) -> bool {
    match error {
        AppendError::Io { .. } | AppendError::Poisoned { .. } => true,
        AppendError::TooLong | AppendError::UnknownEvent | AppendError::StorageFull => false,
    }
}

/// Tells whether the group holds an undecided first try of the same request: it must be durable before it can answer.
fn repeats_within(group: &Group, submission: &Submission) -> bool {
    match submission.origin.cause {
        Cause::Request(id) => group.requests.contains(&id),
        Cause::Observation => false,
    }
}

fn answer(reply: oneshot::Sender<Result<Outcome, Refusal>>, result: Result<Outcome, Refusal>) {
    // Whoever asked may be gone; what happened has happened.
    let _asker_gone = reply.send(result);
}
