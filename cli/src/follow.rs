//! A command in a guest, followed to its end.

use pyro_api::{CancelToken, CapturedOutput, Followed, Progress, Run, RunEvent, Stream};

use crate::exit::Failure;
use crate::interrupts::Interrupts;
use crate::quoting;
use crate::session::Session;

/// Returns the words as one command line; a single empty word is no command at all.
pub(crate) fn command_line(words: &[String]) -> String {
    match words {
        [word] if word.is_empty() => String::new(),
        _ => quoting::join(words.iter().map(String::as_str)),
    }
}

/// Follows a command and keeps what it prints, for a JSON result.
pub(crate) fn capture<Asked: Followed>(request: Asked) -> Result<(Asked::Response, CapturedOutput), Failure> {
    let mut output = CapturedOutput::new();
    let outcome = follow(request, &mut |event| {
        match event {
            Shown::Output(stream, bytes) => output.push(stream, &bytes),
            Shown::Gap(stream, len_bytes) => output.skip(stream, len_bytes),
            Shown::Progress(_) => {}
        }
        Ok(())
    })?;
    Ok((outcome, output))
}

/// What happens before the end.
pub(crate) enum Shown {
    Progress(Progress),
    Output(Stream, Vec<u8>),
    Gap(Stream, u64),
}

/// Returns the line that says that output was dropped.
pub(crate) fn gap_line(stream: Stream, len_bytes: u64) -> String {
    format!("pyro: {len_bytes} bytes of {} were dropped by retention\n", name(stream))
}

/// Returns the line that says that an output file does not have what the log tells of.
pub(crate) fn missing_line(stream: Stream, len_bytes: u64) -> String {
    format!("pyro: {len_bytes} bytes of {} are missing: their file was shortened or deleted\n", name(stream))
}

const fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// Follows to the end. An error of `show` closes the connection, and the daemon knows what that means for the command.
pub(crate) fn follow<Asked: Followed>(
    request: Asked,
    show: &mut dyn FnMut(Shown) -> Result<(), Failure>,
) -> Result<Asked::Response, Failure> {
    let token = CancelToken::new();
    let interrupts = Interrupts::canceling(&token)?;
    let session = Session::starting()?;
    let result = drive(&session, request, &token, show);
    match (interrupts.first(), result) {
        // Also when the command ended by itself meanwhile: whoever interrupts wants to see that it worked.
        (Some(signal), _) => Err(Failure::Interrupted(signal)),
        (None, result) => result,
    }
}

fn drive<Asked: Followed>(
    session: &Session,
    request: Asked,
    token: &CancelToken,
    show: &mut dyn FnMut(Shown) -> Result<(), Failure>,
) -> Result<Asked::Response, Failure> {
    let mut run = Run::start(&session.home, &session.info, &session.start, request, token)?;
    loop {
        match run.next_event()? {
            RunEvent::Progress(progress) => show(Shown::Progress(progress))?,
            RunEvent::Output(stream, bytes) => show(Shown::Output(stream, bytes))?,
            RunEvent::Gap(stream, len_bytes) => show(Shown::Gap(stream, len_bytes))?,
            RunEvent::Ended(outcome) => return Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_word_alone_is_no_command() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(command_line(&words(&[""])), "");
        assert_eq!(command_line(&words(&["", ""])), "'' ''");
        assert_eq!(command_line(&words(&["sh", "-lc", "a && b"])), "sh -lc 'a && b'");
    }
}
