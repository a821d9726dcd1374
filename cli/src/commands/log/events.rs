//! `pyro log`: the events.

use std::process::ExitCode;

use pyro_api::{CallError, Client, Incoming, LogEvent, LogPoint, LogRequest, Progress, TransportError, json};

use crate::arguments::LogEventsArgs;
use crate::event_line::event_line;
use crate::exit::{Failure, Format};
use crate::session::Session;
use crate::sink::Sink;

/// Events are printed together up to so many bytes, as long as more of them are there already.
const BATCH_LEN_BYTES: usize = 64 * 1024;

/// Most daemons that may die in a row without having sent an event: a follower must not start them for ever.
const DEATHS_MAX: u32 = 5;

pub(crate) fn execute(args: LogEventsArgs) -> Result<ExitCode, Failure> {
    let session = Session::starting()?;
    let format = Format::from_flag(args.json);
    let mut printer = Printer { stdout: Sink::stdout()?, format, last: None, cursor: None };
    let mut request = args.request;
    let mut deaths = 0;
    loop {
        let before = printer.last;
        let mut client = session.connect()?;
        match printer.print_all(&mut client, request.clone()) {
            // A daemon that dies does not end the log: whoever follows it goes on with the next daemon.
            Err(Interruption::Lost) if request.follow && deaths < DEATHS_MAX => {
                deaths = if printer.last == before { deaths + 1 } else { 0 };
                // A time that nothing has reached yet stays what is asked for.
                let waits = printer.last.is_none() && matches!(request.since, Some(LogPoint::Time(_)));
                if let Some(cursor) = printer.cursor.filter(|_| !waits) {
                    request = LogRequest { since: Some(LogPoint::after(cursor)), limit: None, ..request };
                }
            }
            Err(Interruption::Lost) => return Err(CallError::from(TransportError::Lost).into()),
            Err(Interruption::Failure(failure)) => return Err(failure),
            Ok(()) => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// Why no more events come.
enum Interruption {
    Lost,
    Failure(Failure),
}

impl<E: Into<Failure>> From<E> for Interruption {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

#[derive(Debug)]
struct Printer {
    stdout: Sink,
    format: Format,
    /// Number of the last event that was printed; `None` before the first.
    last: Option<u64>,
    /// Everything up to this event was printed or is not wanted; `None` while that is not known of any.
    cursor: Option<u64>,
}

impl Printer {
    fn print_all(&mut self, client: &mut Client, request: LogRequest) -> Result<(), Interruption> {
        client.send(request).map_err(CallError::from)?;
        let mut batch = String::new();
        loop {
            if batch.len() >= BATCH_LEN_BYTES || !client.has_buffered() {
                self.stdout.own(&std::mem::take(&mut batch))?;
            }
            match client.receive() {
                Ok(Incoming::Event(event)) => {
                    self.last = Some(event.seq);
                    self.cursor = self.last;
                    batch.push_str(&self.text(&event));
                }
                Ok(Incoming::Reply(reply)) => {
                    self.stdout.own(&batch)?;
                    return reply.map(drop).map_err(Interruption::from);
                }
                Ok(Incoming::Progress(Progress::CaughtUp { seq })) => {
                    self.cursor = self.cursor.max(Some(seq))
                }
                Ok(Incoming::Progress(_) | Incoming::Output(..)) => {}
                Err(TransportError::Lost) => {
                    self.stdout.own(&batch)?;
                    return Err(Interruption::Lost);
                }
                Err(error) => return Err(CallError::from(error).into()),
            }
        }
    }

    fn text(&self, event: &LogEvent) -> String {
        match self.format {
            Format::Json => json::line(event),
            Format::Text => event_line(event),
        }
    }
}
