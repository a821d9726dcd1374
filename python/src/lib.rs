//! The compiled half of the Python package `pyro_mcp`: requests and answers as dictionaries, over the client that all
//! faces share.
//!
//! ```text
//! Python thread                      worker thread, one for each call
//!   Session.start(operation, {…}) -->  connects, asks, keeps what is printed
//!   Call.next()                   <--  news, as many as the queue holds
//!   Call.cancel()                 -->  (asks the daemon for the end)
//!   Call.next()                   <--  the result or the error, always the last
//! ```
//!
//! A worker never touches the interpreter. So no call holds the lock of the interpreter while it waits, an interrupted
//! one can be left at any moment, and a worker that is left behind cannot disturb the interpreter's end.

mod call;
mod convert;
mod failure;
mod news;
mod session;
mod stopper;
mod worker;

use pyo3::prelude::*;

/// The module `pyro_mcp._native`.
#[pymodule]
mod _native {
    use pyo3::prelude::*;
    use pyo3::types::PyTuple;
    use pyro_api::ErrorCode;

    #[pymodule_export]
    use crate::call::Call;
    #[pymodule_export]
    use crate::session::Session;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let codes = ErrorCode::ALL.iter().map(|code| code.as_str());
        module.add("ERROR_CODES", PyTuple::new(module.py(), codes.collect::<Vec<_>>())?)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
