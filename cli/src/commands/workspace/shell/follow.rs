//! `pyro workspace shell read --follow`

use std::process::ExitCode;

use pyro_api::{Attachment, Keyboard, ShellEvent, ShellFollowRequest, Stream};

use super::line::{Reading, read_line};
use crate::exit::{Failure, signal_code};
use crate::follow::gap_line;
use crate::interrupts::Interrupts;
use crate::session::Session;
use crate::sink::Sink;

pub(super) fn execute(request: ShellFollowRequest, raw: bool) -> Result<ExitCode, Failure> {
    let keyboard = Keyboard::new()?;
    let interrupts = Interrupts::leaving(&keyboard)?;
    let (mut stdout, mut stderr) = (Sink::stdout()?, Sink::stderr()?);
    if raw {
        stdout.raw();
    }
    let mut followed = Attachment::follow(Session::starting()?.link(), request, &keyboard)?;
    let mut begin = None;
    let end = loop {
        match followed.next_event()? {
            ShellEvent::Joined { cursor } => begin = Some(cursor),
            ShellEvent::Output(bytes) => stdout.guest(&bytes)?,
            ShellEvent::Gap(len_bytes) => {
                stderr.own_below(&mut stdout, &gap_line(Stream::Stdout, len_bytes))?;
            }
            ShellEvent::Ended(end) => break end,
        }
    };
    let cursor = begin.unwrap_or(end.next_cursor);
    let reading = Reading { cursor, next_cursor: end.next_cursor, truncated: false, condition: None };
    stderr.own_below(&mut stdout, &read_line(&end.shell, &reading))?;
    // What was read until then is as good, and the line says where to go on.
    Ok(interrupts.first().map_or(ExitCode::SUCCESS, signal_code))
}
