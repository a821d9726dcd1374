//! Errors as exceptions of Python.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyro_api::ApiError;

/// Returns the exception that `pyro_mcp._errors` makes of an error.
pub(crate) fn exception(py: Python<'_>, error: &ApiError) -> PyErr {
    static ERROR_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ERROR_OF
        .import(py, "pyro_mcp._errors", "error_of")
        .and_then(|error_of| error_of.call1((error.code.as_str(), &error.message, error.hint.as_deref())))
        .map_or_else(|failure| failure, PyErr::from_value)
}
