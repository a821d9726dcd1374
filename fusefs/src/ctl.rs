//! The commands that the `ctl` files take: one a line, as words with blanks between them.

use pyro_core::{ShellId, ShellSignal, TerminalSize, WorkspaceId};

use crate::host::{Refusal, RefusalKind, Wish};

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::Invalid, message: message.into() }
}

/// Returns the first word and what is behind it.
fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim_start()))
}

fn no_more(word: &str, rest: &str, wish: Wish) -> Result<Wish, Refusal> {
    if rest.is_empty() { Ok(wish) } else { Err(invalid(format!("`{word}` stands alone"))) }
}

/// Understands a line for a workspace.
pub(crate) fn workspace(workspace: WorkspaceId, line: &str) -> Result<Wish, Refusal> {
    let (word, rest) = split(line);
    match word {
        "exec" => exec(workspace, rest),
        "start" => no_more(word, rest, Wish::Start(workspace)),
        "stop" => no_more(word, rest, Wish::Stop(workspace)),
        "delete" => no_more(word, rest, Wish::Delete(workspace)),
        _ => Err(invalid(format!("`{word}` is none of: exec, start, stop, delete"))),
    }
}

/// Understands what is to be run: a command, and before it how long it may take.
pub(crate) fn exec(workspace: WorkspaceId, line: &str) -> Result<Wish, Refusal> {
    let (word, rest) = split(line);
    let (timeout_seconds, command) = match word.strip_prefix("timeout=") {
        Some(seconds) => {
            let seconds = seconds.parse().map_err(|_| invalid("timeout= takes a number of seconds"))?;
            (Some(seconds), rest)
        }
        None => (None, line.trim()),
    };
    if command.is_empty() {
        return Err(invalid("there is no command behind `exec`"));
    }
    Ok(Wish::Exec { workspace, command: command.to_owned(), timeout_seconds })
}

/// Understands a line for a shell.
pub(crate) fn shell(workspace: WorkspaceId, shell: ShellId, line: &str) -> Result<Wish, Refusal> {
    let (word, rest) = split(line);
    match word {
        "signal" => {
            let name = rest.strip_prefix("SIG").unwrap_or(rest);
            let signal = ShellSignal::ALL.into_iter().find(|signal| signal.as_str() == name);
            let signal = signal.ok_or_else(|| invalid("`signal` takes HUP, INT, TERM or KILL"))?;
            Ok(Wish::Signal { workspace, shell, signal })
        }
        "resize" => {
            let mut numbers = rest.split_whitespace().map(str::parse);
            match (numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(columns)), Some(Ok(rows)), None) => {
                    Ok(Wish::Resize { workspace, shell, size: TerminalSize { columns, rows } })
                }
                _ => Err(invalid("`resize` takes the columns and the rows")),
            }
        }
        "close" => no_more(word, rest, Wish::Close { workspace, shell }),
        _ => Err(invalid(format!("`{word}` is none of: signal, resize, close"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: WorkspaceId = WorkspaceId::from_bytes([1; 6]);

    fn run(command: &str, timeout_seconds: Option<u64>) -> Result<Wish, Refusal> {
        Ok(Wish::Exec { workspace: ID, command: command.to_owned(), timeout_seconds })
    }

    /// Catches a command line whose blanks or quotes are lost, and an option that is taken for a word of it.
    #[test]
    fn a_command_line_stays_as_it_is() {
        assert_eq!(workspace(ID, "exec printf 'a  b' | wc  "), run("printf 'a  b' | wc", None));
        assert_eq!(workspace(ID, "exec timeout=60 make  all"), run("make  all", Some(60)));
        assert_eq!(workspace(ID, "exec timeout 60 make"), run("timeout 60 make", None));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let at = ShellId::from_bytes([2; 6]);
        for line in ["", "halt", "stop now", "exec", "exec timeout=x make", "exec timeout=5"] {
            assert!(workspace(ID, line).is_err(), "{line:?}");
        }
        for line in ["", "signal", "signal QUIT", "resize 80", "resize 80 24 1", "resize a b", "close it"] {
            assert!(shell(ID, at, line).is_err(), "{line:?}");
        }
        assert!(shell(ID, at, "signal SIGINT").is_ok() && shell(ID, at, "resize 80 24").is_ok());
    }
}
