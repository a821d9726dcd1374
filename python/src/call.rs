//! A request that is under way.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyro_api::{ApiError, Stream};
use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;
use serde_json::Value;

use crate::convert::to_python;
use crate::failure::exception;
use crate::news::News;
use crate::stopper::Stopper;

/// How often a waiting thread looks for signals: Ctrl-C must be felt at once.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// A request that is under way. Dropping it ends what it began.
#[pyclass(frozen, module = "pyro_mcp._native")]
#[derive(Debug)]
pub(crate) struct Call {
    news: Mutex<Receiver<News>>,
    stopper: Stopper,
    bell: Option<Arc<OwnedFd>>,
    /// The last of the news was taken.
    ended: AtomicBool,
}

/// Makes what a worker rings when it has news.
pub(crate) fn new_bell() -> std::io::Result<Arc<OwnedFd>> {
    Ok(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
}

#[pymethods]
impl Call {
    /// Waits for news and returns them as a tuple of their kind and more; `None` when there are none in `timeout` seconds.
    /// A signal handler that raises ends the wait and the operation.
    #[pyo3(signature = (timeout=None))]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let limit =
            timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
        self.wait(py, limit)?.map(|news| tell(py, news)).transpose()
    }

    /// Returns news as [`next`](Self::next) does, and does not wait for them.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(bell) = &self.bell {
            // It has not been rung when there is nothing to read.
            let _silent = rustix::io::read(bell, &mut [0_u8; 8]);
        }
        let taken = self.receiver().try_recv();
        match taken {
            Ok(news) => tell(py, self.note(news)).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(over()),
        }
    }

    /// The file that can be read when there may be news, for event loops.
    fn fileno(&self) -> PyResult<RawFd> {
        let bell = self.bell.as_ref().ok_or_else(|| PyRuntimeError::new_err("the call is not audible"))?;
        Ok(bell.as_raw_fd())
    }

    /// Asks for the end, which then comes as news. It does not wait.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| self.stopper.stop());
    }
}

impl Call {
    pub(crate) fn new(news: Receiver<News>, stopper: Stopper, bell: Option<Arc<OwnedFd>>) -> Self {
        Self { news: Mutex::new(news), stopper, bell, ended: AtomicBool::new(false) }
    }

    /// Waits for the end.
    pub(crate) fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loop {
            if let Some(News::Ended(end)) = self.wait(py, None)? {
                return end_of(py, end);
            }
        }
    }

    /// Waits for news; `None` when the time is over.
    fn wait(&self, py: Python<'_>, limit: Option<Duration>) -> PyResult<Option<News>> {
        // A limit too far away to be told is none.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left =
                deadline.map_or(SIGNAL_CHECK, |deadline| deadline.saturating_duration_since(Instant::now()));
            let waited = py.detach(|| self.receiver().recv_timeout(left.min(SIGNAL_CHECK)));
            match waited {
                Ok(news) => return Ok(Some(self.note(news))),
                Err(RecvTimeoutError::Disconnected) => return Err(over()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(interrupt) = py.check_signals() {
                py.detach(|| self.stopper.stop());
                return Err(interrupt);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(None);
            }
        }
    }

    fn note(&self, news: News) -> News {
        if matches!(news, News::Ended(_)) {
            self.ended.store(true, Ordering::Relaxed);
        }
        news
    }

    fn receiver(&self) -> MutexGuard<'_, Receiver<News>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            self.stopper.stop();
        }
    }
}

fn over() -> PyErr {
    PyRuntimeError::new_err("the call has ended before")
}

/// Returns news as a tuple: `("progress", dict)`, `("output", stream, bytes)`, `("gap", stream, length)`,
/// `("event", dict)` or `("ended", result)`. An error is raised.
fn tell(py: Python<'_>, news: News) -> PyResult<Bound<'_, PyAny>> {
    let tuple = match news {
        News::Progress(progress) => ("progress", plain(py, &progress)?).into_pyobject(py)?.into_any(),
        News::Output(stream, bytes) => {
            ("output", name_of(stream), PyBytes::new(py, &bytes)).into_pyobject(py)?.into_any()
        }
        News::Gap(stream, len_bytes) => ("gap", name_of(stream), len_bytes).into_pyobject(py)?.into_any(),
        News::Event(event) => ("event", plain(py, &event)?).into_pyobject(py)?.into_any(),
        News::Ended(end) => ("ended", end_of(py, end)?).into_pyobject(py)?.into_any(),
    };
    Ok(tuple)
}

fn end_of(py: Python<'_>, end: Result<Value, ApiError>) -> PyResult<Bound<'_, PyAny>> {
    end.map_err(|error| exception(py, &error)).and_then(|value| to_python(py, &value))
}

fn plain<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(value).expect("the types of the contract have only string keys");
    to_python(py, &value)
}

const fn name_of(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}
