//! A home of pyro, and the calls to its daemon.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use pyo3::prelude::*;
use pyro_api::{ApiError, ClientInfo, ErrorCode, Face, Home, Request, Start};
use serde_json::Value;

use crate::call::{Call, new_bell};
use crate::convert::from_python;
use crate::failure::exception;
use crate::news::Interest;
use crate::stopper::Stopper;
use crate::worker::{Teller, Way, Worker, is_shell_follow};

/// Most news that wait for their reader; a piece of output has up to 256 KiB.
const NEWS_MAX: usize = 16;

/// Stack of a worker, in bytes: the deepest thing that it does is to read JSON, which nests no deeper than 128 levels.
const WORKER_STACK_BYTES: usize = 512 * 1024;

/// A home of pyro. Making one touches no file and starts nothing; the first call that needs the daemon starts it.
#[pyclass(frozen, module = "pyro_mcp._native")]
#[derive(Debug)]
pub(crate) struct Session {
    way: Way,
}

#[pymethods]
impl Session {
    /// Takes a directory as home; with `None` it is found as the command `pyro` finds it.
    #[new]
    #[pyo3(signature = (program, home))]
    fn new(py: Python<'_>, program: PathBuf, home: Option<PathBuf>) -> PyResult<Self> {
        let found = home.map_or_else(Home::from_environment, |home| Home::from_environment_at(&home));
        let home = found.map_err(|error| exception(py, &error.into()))?;
        let client = concat!("pyro_mcp/", env!("CARGO_PKG_VERSION")).to_owned();
        let info = ClientInfo { client, face: Face::Python };
        Ok(Self { way: Way { home, info, start: Start::IfNeeded { program } } })
    }

    /// The directory of the home.
    #[getter]
    fn home(&self) -> PathBuf {
        self.way.home.root().to_owned()
    }

    /// The program that is started as daemon.
    #[getter]
    fn program(&self) -> Option<PathBuf> {
        match &self.way.start {
            Start::IfNeeded { program } => Some(program.clone()),
            Start::Never => None,
        }
    }

    /// Asks for an operation and waits for its result.
    fn ask<'py>(&self, operation: &str, request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.begin(operation, request, Interest::EndOnly, false)?.result(request.py())
    }

    /// Begins an operation. With `audible`, [`Call::fileno`] can be waited for.
    #[pyo3(signature = (operation, request, *, observe, audible))]
    fn start(
        &self,
        operation: &str,
        request: &Bound<'_, PyAny>,
        observe: bool,
        audible: bool,
    ) -> PyResult<Call> {
        let interest = if observe { Interest::All } else { Interest::EndOnly };
        self.begin(operation, request, interest, audible)
    }
}

impl Session {
    fn begin(
        &self,
        operation: &str,
        request: &Bound<'_, PyAny>,
        interest: Interest,
        audible: bool,
    ) -> PyResult<Call> {
        let request = read_request(operation, from_python(request)?)
            .map_err(|error| exception(request.py(), &error))?;
        let stopper = if is_shell_follow(&request) { Stopper::leaving()? } else { Stopper::canceling() };
        let bell = if audible { Some(new_bell()?) } else { None };
        let (sender, news) = mpsc::sync_channel(NEWS_MAX);
        let worker = Worker {
            way: self.way.clone(),
            stopper: stopper.clone(),
            interest,
            teller: Teller { news: sender, bell: bell.clone() },
        };
        spawn(worker, request)?;
        Ok(Call::new(news, stopper, bell))
    }
}

fn spawn(worker: Worker, request: Request) -> io::Result<()> {
    let builder = thread::Builder::new().name("pyro".to_owned()).stack_size(WORKER_STACK_BYTES);
    builder.spawn(move || worker.work(request)).map(drop)
}

/// Reads a request. The error names the field that is wrong.
fn read_request(operation: &str, fields: Value) -> Result<Request, ApiError> {
    let tagged = serde_json::json!({ operation: fields });
    serde_path_to_error::deserialize(tagged).map_err(|error| {
        let path = error.path().to_string();
        let message = match path.strip_prefix(operation).and_then(|path| path.strip_prefix('.')) {
            Some(field) => format!("{field}: {}", error.inner()),
            None => error.inner().to_string(),
        };
        ApiError::new(ErrorCode::InvalidArgument, message)
    })
}
