//! JSON and plain objects of Python.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};
use serde_json::{Map, Number, Value};

/// Returns a value as `None`, `bool`, `int`, `float`, `str`, `list` or `dict`.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Number(number) => number_to_python(py, number)?,
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(to_python(py, value)?)?;
            }
            list.into_any()
        }
        Value::Object(members) => {
            let dict = PyDict::new(py);
            for (name, value) in members {
                dict.set_item(name, to_python(py, value)?)?;
            }
            dict.into_any()
        }
    })
}

fn number_to_python<'py>(py: Python<'py>, number: &Number) -> PyResult<Bound<'py, PyAny>> {
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(number), _, _) => Ok(number.into_pyobject(py)?.into_any()),
        (None, Some(number), _) => Ok(number.into_pyobject(py)?.into_any()),
        (None, None, Some(number)) => Ok(PyFloat::new(py, number).into_any()),
        (None, None, None) => Err(PyValueError::new_err(format!("a number without a value: {number}"))),
    }
}

/// Returns what a request says in JSON. Numbers that no field can hold become text, and the field refuses them.
///
/// # Errors
///
/// For an object of another class than [`to_python`] makes.
pub(crate) fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if object.is_none() {
        Ok(Value::Null)
    } else if let Ok(value) = object.cast::<PyBool>() {
        Ok(Value::Bool(value.is_true()))
    } else if let Ok(text) = object.cast::<PyString>() {
        Ok(Value::String(text.extract()?))
    } else if object.is_instance_of::<PyInt>() {
        integer_from_python(object)
    } else if let Ok(number) = object.cast::<PyFloat>() {
        let number = number.extract::<f64>()?;
        Ok(Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number))
    } else if let Ok(list) = object.cast::<PyList>() {
        list.iter().map(|item| from_python(&item)).collect::<PyResult<_>>().map(Value::Array)
    } else if let Ok(dict) = object.cast::<PyDict>() {
        let members = dict.iter().map(|(name, value)| Ok((name.extract::<String>()?, from_python(&value)?)));
        members.collect::<PyResult<Map<_, _>>>().map(Value::Object)
    } else {
        Err(PyTypeError::new_err(format!(
            "no request can hold an object of class {}",
            object.get_type().name()?
        )))
    }
}

fn integer_from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    match (object.extract::<u64>(), object.extract::<i64>()) {
        (Ok(number), _) => Ok(number.into()),
        (Err(_), Ok(number)) => Ok(number.into()),
        (Err(_), Err(_)) => Ok(Value::String(object.str()?.extract()?)),
    }
}
