//! `pyro log export`: the same events give the same bytes, on any machine.

mod jsonl;
mod otlp;
mod sqlite;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use pyro_api::{ApiError, ErrorCode, Incoming, LogEvent, LogRequest};

use crate::arguments::{ExportFormat, LogExportArgs};
use crate::exit::Failure;
use crate::session::Session;
use crate::sink::Sink;

use otlp::Otlp;
use sqlite::Sqlite;

/// Text is written in pieces of about so many bytes.
const PIECE_LEN_BYTES: usize = 64 * 1024;

/// What the name of an unfinished export ends in.
const UNFINISHED: &str = ".part";

pub(super) fn execute(args: LogExportArgs) -> Result<ExitCode, Failure> {
    let request = LogRequest {
        since: args.since,
        until: args.until,
        workspace: args.workspace,
        hashes: true,
        ..LogRequest::default()
    };
    match (args.format, &args.output) {
        (ExportFormat::Sqlite, None) => {
            let message = "a database is a file: --output must name it";
            Err(ApiError::new(ErrorCode::InvalidArgument, message).into())
        }
        (ExportFormat::Sqlite, Some(output)) => replace(output, |path| {
            let database = Sqlite::create(path)?;
            for_each_event(request, |event| database.push(event))?;
            database.finish()
        }),
        (ExportFormat::Jsonl | ExportFormat::OtlpJson, None) => {
            let mut stdout = Sink::stdout()?;
            write_text(request, args.format, |text| stdout.own(text))
        }
        (ExportFormat::Jsonl | ExportFormat::OtlpJson, Some(output)) => replace(output, |path| {
            let mut file = BufWriter::new(File::create(path)?);
            write_text(request, args.format, |text| file.write_all(text.as_bytes()))?;
            Ok(file.flush()?)
        }),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for the events and shows one after the other, up to the first failure.
fn for_each_event(
    request: LogRequest,
    mut show: impl FnMut(&LogEvent) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut client = Session::starting()?.connect()?;
    let mut shown = Ok(());
    client.call(request, |incoming| {
        if let Incoming::Event(event) = incoming
            && shown.is_ok()
        {
            shown = show(&event);
        }
    })?;
    shown
}

fn write_text(
    request: LogRequest,
    format: ExportFormat,
    mut write: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut otlp = (format == ExportFormat::OtlpJson).then(Otlp::default);
    let mut piece = String::new();
    for_each_event(request, |event| {
        match &mut otlp {
            Some(otlp) => otlp.push(event, &mut piece),
            None => piece.push_str(&jsonl::line(event)),
        }
        if piece.len() >= PIECE_LEN_BYTES {
            write(&std::mem::take(&mut piece))?;
        }
        Ok(())
    })?;
    if let Some(otlp) = otlp {
        otlp.finish(&mut piece);
    }
    Ok(write(&piece)?)
}

/// Makes a file under another name and gives it its own when it is complete.
fn replace(output: &Path, make: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut name = output.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = Path::new(&name);
    let made = make(unfinished).and_then(|()| Ok(std::fs::rename(unfinished, output)?));
    if made.is_err() {
        // The reason is told; what is left of the file is of no use.
        let _not_made = std::fs::remove_file(unfinished);
    }
    made
}
