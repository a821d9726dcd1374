//! The line about a shell that its commands print on standard error.

use pyro_api::ShellObject;

use crate::sanitize;

/// Returns the line of the contract; `end` stands at its end.
pub(super) fn shell_line(command: &str, shell: &ShellObject, end: &str) -> String {
    format!(
        "[workspace-shell-{command}] workspace_id={} shell_id={} state={} cwd={} cols={} rows={} \
         execution_mode={}{end}\n",
        sanitize::line(&shell.workspace_id),
        sanitize::line(&shell.shell_id),
        sanitize::line(&shell.state),
        sanitize::line(&shell.cwd),
        shell.cols,
        shell.rows,
        sanitize::line(&shell.execution_mode)
    )
}

/// What was read of a shell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) cursor: u64,
    pub(super) next_cursor: u64,
    pub(super) truncated: bool,
    /// Whether text was asked for, and after how long a silence; `None` when neither was.
    pub(super) condition: Option<(bool, Option<u64>)>,
}

/// Returns the line of the contract about something that was read.
pub(super) fn read_line(shell: &ShellObject, reading: &Reading) -> String {
    let Reading { cursor, next_cursor, truncated, condition } = *reading;
    let condition = condition.map_or_else(String::new, |(plain, idle_ms)| {
        let idle_ms = idle_ms.map_or_else(|| "None".to_owned(), |idle_ms| idle_ms.to_string());
        format!("plain={} wait_for_idle_ms={idle_ms} ", boolean(plain))
    });
    format!(
        "[workspace-shell-read] workspace_id={} shell_id={} state={} cursor={cursor} next_cursor={next_cursor} \
         truncated={} {condition}execution_mode={}\n",
        sanitize::line(&shell.workspace_id),
        sanitize::line(&shell.shell_id),
        sanitize::line(&shell.state),
        boolean(truncated),
        sanitize::line(&shell.execution_mode)
    )
}

/// The contract is older than this program.
const fn boolean(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}
