//! `pyro demo`

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use pyro_api::{Home, RunRequest};

use super::run::run_to_json;
use crate::arguments::{DemoArgs, DemoCommand, OllamaArgs};
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;
use crate::sink::Sink;

const ENVIRONMENT: &str = "debian:12";
const COMMAND: &str = "git --version";

/// The shell itself is the client: the environment has no other program for HTTP.
const NETWORK_COMMAND: &str = "bash -c 'exec 3<>/dev/tcp/deb.debian.org/80 && \
    printf \"HEAD / HTTP/1.0\\r\\nHost: deb.debian.org\\r\\n\\r\\n\" >&3 && head -n 1 <&3'";

/// Takes a line of what is shown.
pub type Tell<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

/// A model that shall run a command.
#[derive(Debug)]
pub struct OllamaDemo {
    /// The home whose daemon is asked.
    pub home: Home,
    /// The program `pyro`.
    pub program: PathBuf,
    /// Where the model is served.
    pub base_url: String,
    /// Name of the model.
    pub model: String,
    /// Whether all that is said is shown.
    pub verbose: bool,
}

impl OllamaDemo {
    /// Has the demonstration carried out, shows each line of it on standard output, and returns the exit code.
    #[must_use]
    pub fn run<Error: std::fmt::Display>(
        self,
        demonstrate: impl FnOnce(Self, Tell<'_>) -> Result<(), Error>,
    ) -> ExitCode {
        // A model says what it wants, so its words are not for a terminal.
        let show = |sink: &mut Sink, line: &str| sink.own(&format!("{}\n", sanitize::line(line)));
        let shown = Sink::stdout().and_then(|mut sink| {
            match demonstrate(self, &mut |line| show(&mut sink, line)) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                // When it is about the output, this fails as well.
                Err(error) => show(&mut sink, &format!("[error] {error}")).map(|()| ExitCode::FAILURE),
            }
        });
        shown.unwrap_or_else(|error| Failure::from(error).report(Format::Text))
    }
}

/// What became of `pyro demo`.
pub(crate) enum Execution {
    /// This process shall be the server of a model's tools.
    Become(OllamaDemo),
    /// The command has ended.
    Done(Format, Result<ExitCode, Failure>),
}

pub(crate) fn execute(args: DemoArgs) -> Execution {
    match args.command {
        None => Execution::Done(Format::Json, run(args.network)),
        Some(DemoCommand::Ollama(args)) => match prepare(args) {
            Ok(demo) => Execution::Become(demo),
            Err(failure) => Execution::Done(Format::Text, Err(failure)),
        },
    }
}

fn prepare(args: OllamaArgs) -> Result<OllamaDemo, Failure> {
    let (home, program) = Session::starting()?.into_server()?;
    let OllamaArgs { base_url, model, verbose } = args;
    Ok(OllamaDemo { home, program, base_url, model, verbose })
}

fn run(network: bool) -> Result<ExitCode, Failure> {
    let command = if network { NETWORK_COMMAND } else { COMMAND };
    let mut request = RunRequest::new(ENVIRONMENT, command);
    request.network = network;
    // The result shows how the command ended; the demonstration has succeeded when there is one.
    run_to_json(request).map(|_| ExitCode::SUCCESS)
}
