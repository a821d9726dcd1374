//! Shells: terminals, input, jobs, and their ends.

use std::fs;
use std::time::{Duration, Instant};

use pyro_protocol::{
    ExitStatus, Failed, GuestFrame, HostFrame, INPUT_DATA_MAX, INPUT_HELD_MAX, Phase, STREAM_RETAINED_MAX,
    Shell, Stage, Stream, TerminalSize,
};
use rustix::process::Signal;

use crate::host::{Agent, exec, released};
use crate::screen::{PROMPT, Screen, shell};

/// Longer than any test may take: what waits for it has failed.
const NEVER_MS: u64 = 3_600_000;

const CTRL_C: &[u8] = b"\x03";
const CTRL_Z: &[u8] = b"\x1a";

fn signal(signal: Signal) -> HostFrame {
    HostFrame::Signal { signal: u8::try_from(signal.as_raw()).expect("a small number") }
}

#[test]
fn a_shell_prompts_and_answers() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    assert_eq!(screen.run("echo o''ne"), format!("\x1b[?2004l\rone\r\n\x1b[?2004h{PROMPT}"));
    assert_eq!(screen.progress.consumed, screen.typed());
}

#[test]
fn a_shell_leads_a_session_on_its_own_terminal() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    let text = screen.run("tty; set -- $(cat /proc/$$/stat); echo leader $(($$ - $5)) $(($$ - $6)) .");
    assert!(text.contains("/dev/pts/") && text.contains("leader 0 0 ."), "{text:?}");
    assert!(screen.run("echo here > /dev/tty").contains("here"));
}

#[test]
fn a_shell_inherits_nothing() {
    let agent = Agent::start();
    let _other = Screen::ready(&agent, 1);
    let mut screen = Screen::ready(&agent, 2);
    // The listing itself is descriptor 3.
    assert!(screen.run("echo $(ls /proc/self/fd)").contains("0 1 2 3\r\n"));
}

#[test]
fn the_environment_is_that_of_a_person() {
    let agent = Agent::start();
    let env = vec![("HOME".to_owned(), "/h".to_owned()), ("X".to_owned(), "a b".to_owned())];
    let mut screen = Screen::open(&agent, Shell { env, ..shell(1) });
    screen.until(PROMPT);
    let text = screen.run(r#"echo "$HOME|$X|$LANG|$TERM|${PROMPT_COMMAND-unset}|""#);
    assert!(text.contains("/h|a b|C.UTF-8|xterm-256color||"), "{text:?}");
}

#[test]
fn without_bash_the_shell_is_sh() {
    let agent = Agent::start_without_bash();
    let mut screen = Screen::ready(&agent, 1);
    assert!(screen.run("echo ${BASH_VERSION-none}").contains("none"));
    screen.line("exit 6");
    assert_eq!(screen.exited().status, ExitStatus::Code(6));
}

#[test]
fn a_shell_that_cannot_be_started_never_ran() {
    let agent = Agent::start_without_shell();
    let mut link = agent.connect();
    link.send(&HostFrame::Shell(shell(1)));
    let GuestFrame::Failed(failed) = link.expect() else { panic!("the shell ran") };
    assert_eq!((failed.stage, failed.message.as_str()), (Stage::Spawn, "start /bin/sh"));
    // What is sent to it does no harm.
    link.send(&HostFrame::Resize(TerminalSize { columns: 1, rows: 1 }));
    link.send(&HostFrame::HangUp { grace_ms: 0 });
    link.forget();
}

#[test]
fn the_working_directory_is_made_or_missed() {
    let agent = Agent::start();
    let directory = agent.path("work");
    let in_directory = |op| Shell { cwd: directory.to_str().unwrap().to_owned(), ..shell(op) };
    let mut link = agent.connect();
    link.send(&HostFrame::Shell(in_directory(1)));
    assert!(matches!(link.expect(), GuestFrame::Failed(Failed { stage: Stage::Cwd, errno: 2, .. })));
    link.forget();
    let mut screen = Screen::open(&agent, Shell { create_cwd: true, ..in_directory(2) });
    screen.until(PROMPT);
    assert!(screen.run("pwd").contains(&format!("{}\r\n", directory.display())));
}

/// A host that lost the answer asks again. There must not be a second shell.
#[test]
fn a_number_opens_one_shell() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    screen.run("X=kept");
    let again = Screen::open(&agent, shell(1));
    assert_eq!(screen.link.next(), None);
    assert_eq!((again.typed(), agent.operations().len()), (screen.typed(), 1));
    let shown = screen.shown.len();
    assert!(screen.attach(&agent, shown).run("echo $X").contains("kept"));
}

#[test]
fn the_size_is_set_and_the_job_is_told() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    assert!(screen.run("stty size").contains("24 80\r\n"));
    screen.line(r#"sh -c 'trap "stty size; exit" WINCH; echo re""ady; sleep 1000 & wait'"#);
    screen.until("ready");
    screen.link.send(&HostFrame::Resize(TerminalSize { columns: 123, rows: 45 }));
    screen.until("45 123\r\n");
}

/// What comes before the shell runs is not lost.
#[test]
fn orders_may_come_with_the_shell() {
    let agent = Agent::start();
    let mut link = agent.connect();
    link.send(&HostFrame::Shell(shell(1)));
    link.send(&HostFrame::Resize(TerminalSize { columns: 77, rows: 7 }));
    let data = b"stty size\n".to_vec().into();
    link.send(&HostFrame::Input(pyro_protocol::Input { offset: 0, data }));
    Screen::begun(link, 1).until("7 77\r\n");
}

#[test]
fn an_interrupt_ends_the_job_and_not_the_shell() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    for by_frame in [true, false] {
        screen.line("sh -c 'echo re''ady; exec sleep 1000'");
        screen.until("ready");
        if by_frame {
            screen.link.send(&signal(Signal::INT));
        } else {
            screen.type_bytes(CTRL_C);
        }
        screen.until(PROMPT);
        assert!(screen.run("echo it was $?").contains("it was 130"));
    }
    // At its prompt the shell is the job.
    screen.link.send(&signal(Signal::KILL));
    assert_eq!(screen.exited().status, ExitStatus::Signal(9));
}

#[test]
fn jobs_are_controlled() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    for (line, shown) in [("sh -c 'echo re''ady; exec cat'", "ready\r\n"), ("fg", "exec cat'\r\n")] {
        screen.line(line);
        screen.until(shown);
        // The first is the echo of the terminal, the second comes from the job, which may read only in the foreground.
        screen.line("here");
        screen.until("here\r\nhere\r\n");
        screen.type_bytes(CTRL_Z);
        assert!(screen.until(PROMPT).contains("Stopped"));
    }
    screen.run("sleep 1000 &");
    let jobs = screen.run("jobs");
    assert!(jobs.contains("Stopped") && jobs.contains("Running"), "{jobs:?}");
    screen.run("kill -KILL %1 %2; wait");
    assert_eq!(screen.run("jobs").matches("Running").count(), 0);
}

/// Input for a job that does not read stops nothing else, and arrives whole once something reads.
#[test]
fn a_job_that_does_not_read_blocks_nobody() {
    const BYTES: usize = 900_000;
    let agent = Agent::start();
    let go = agent.lifeline();
    let bytes: Vec<u8> = (0..BYTES).map(|i| u8::try_from(i * i % 251).unwrap()).collect();
    let wanted = agent.path("wanted");
    fs::write(&wanted, &bytes).unwrap();

    let mut screen = Screen::ready(&agent, 1);
    let (go_path, wanted) = (go.path().display(), wanted.display());
    screen.line(&format!(
        "stty raw -echo; echo re''ady; cat {go_path}; head -c {BYTES} | cmp - {wanted} && echo sa''me; stty sane"
    ));
    screen.until("ready");
    screen.type_bytes(&bytes);
    screen.received();
    assert!(screen.progress.consumed < 100_000, "{:?}", screen.progress);
    assert_eq!(agent.connect().ask(&HostFrame::Ping), GuestFrame::Pong);
    assert_eq!(agent.run(exec(2, "seq 100000 | tail -n 1")).stdout, b"100000\n");

    fs::write(go.path(), "went\n").unwrap();
    screen.until("went");
    screen.until("same");
    screen.consumed();
    screen.until(PROMPT);
}

/// A host that sends more than the agent holds loses the connection, and the shell goes on with what it has.
#[test]
fn too_much_input_costs_the_connection() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    screen.line("stty raw -echo; echo re''ady; exec sleep 1000");
    screen.until("ready");
    screen.type_bytes(&vec![b'x'; INPUT_HELD_MAX]);
    screen.received();
    screen.type_bytes(&vec![b'x'; INPUT_DATA_MAX]);
    while screen.link.next().is_some() {}
    let shown = screen.shown.len();
    let mut screen = screen.attach(&agent, shown);
    assert!(screen.progress.received - screen.progress.consumed <= INPUT_HELD_MAX as u64);
    screen.link.send(&HostFrame::Kill);
    assert_eq!(screen.exited().status, ExitStatus::Signal(9));
}

/// A host that does not know what arrived sends it again.
#[test]
fn repeated_input_is_typed_once() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    let line = b"echo [1''23]\n";
    for (offset, end) in [(0, 6), (0, 6), (3, 8), (0, 8), (8, 9), (2, line.len())] {
        screen.type_at(offset, &line[usize::try_from(offset).unwrap()..end]);
    }
    let text = screen.until("[123]\r\n");
    assert_eq!(text.matches("echo").count(), 1, "{text:?}");
    screen.until(PROMPT);
    assert_eq!(screen.progress.consumed, line.len() as u64);
}

#[test]
fn a_hole_in_the_input_ends_the_connection_and_not_the_shell() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    screen.type_at(1, b"x");
    assert_eq!(screen.link.next(), None);
    let shown = screen.shown.len();
    let mut screen = screen.attach(&agent, shown);
    assert_eq!(screen.progress.received, 0);
    assert!(screen.run("echo al''ive").contains("alive"));
}

/// Output that fills what is kept again and again, over connections that are lost, each time with less on the host's disk
/// than it had received.
#[test]
fn what_is_shown_is_exact_through_losses_of_the_host() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    let start = screen.shown.len();
    screen.line("seq 200000; echo en''d");
    let mut durable = start;
    for round in 1..12 {
        let until = durable + (50_000 * round).min(STREAM_RETAINED_MAX - 1);
        while screen.shown.len() < until && !screen.shown.ends_with(PROMPT.as_bytes()) {
            assert_eq!(screen.step(false), None);
        }
        durable += (screen.shown.len() - durable) * 2 / 3;
        screen.link.ack(Stream::Stdout, durable as u64);
        screen = screen.attach(&agent, durable);
    }
    screen.until("end\r\n");
    let shown = String::from_utf8_lossy(&screen.shown[start..]).into_owned();
    let expected: String = (1..=200_000).map(|number| format!("{number}\r\n")).collect();
    let numbers = shown.split_once("\x1b[?2004l\r").expect("the end of the line that was typed").1;
    assert!(numbers.starts_with(&format!("{expected}end\r\n")), "bytes are lost or doubled");
}

/// As with pipes: nothing is dropped to go on.
#[test]
fn a_full_buffer_stops_the_terminal() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    let before = screen.shown.len();
    screen.line("yes");
    while screen.shown.len() < before + STREAM_RETAINED_MAX {
        assert_eq!(screen.step(false), None);
    }
    let kept = agent.operations()[0].stdout;
    assert_eq!((kept.start, kept.end), (before as u64, (before + STREAM_RETAINED_MAX) as u64));
    // Interrupting it does not wait for the host to take what it wrote.
    screen.type_bytes(CTRL_C);
    screen.consumed();
    screen.link.ack(Stream::Stdout, screen.shown.len() as u64);
    screen.until(PROMPT);
}

#[test]
fn the_end_of_the_shell_is_the_end_of_the_operation() {
    let agent = Agent::start();
    for (line, status) in [
        ("exit 7", ExitStatus::Code(7)),
        ("kill -9 $$", ExitStatus::Signal(9)),
        ("exec sh -c 'echo la''st; exit 255'", ExitStatus::Code(255)),
    ] {
        let mut screen = Screen::ready(&agent, 1);
        screen.line(line);
        assert_eq!(screen.exited().status, status, "{line}");
        screen.link.forget();
    }
}

/// What the shell wrote before its end is there, however much it is, and however little the host takes at once.
#[test]
fn the_exit_comes_after_all_that_was_shown() {
    let agent = Agent::start();
    for op in 0..20 {
        let mut screen = Screen::ready(&agent, op);
        screen.line("exec sh -c 'seq 3000; echo la''st'");
        screen.exited();
        assert!(screen.shown.ends_with(b"\r\n3000\r\nlast\r\n"));
        screen.link.forget();
    }
}

/// A server that was started in the background holds the terminal, may write to it, and outlives the shell.
#[test]
fn a_child_in_the_background_does_not_delay_the_exit() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let mut screen = Screen::ready(&agent, 1);
    screen.line(&format!("(exec 9> {}; exec sleep 1000) & exit 3", lifeline.path().display()));
    let left_running = lifeline.held();
    assert_eq!(screen.exited().status, ExitStatus::Code(3));
    screen.link.send(&HostFrame::Kill);
    released(left_running);

    let mut noisy = Screen::ready(&agent, 2);
    noisy.line("yes & exit 4");
    assert_eq!(noisy.exited().status, ExitStatus::Code(4));
}

/// A shell may close its terminal and open it again: what a descriptor says meanwhile is not its end.
#[test]
fn a_shell_without_descriptors_lives() {
    let agent = Agent::start();
    let go = agent.lifeline();
    let gone = agent.path("gone");
    let mut screen = Screen::ready(&agent, 1);
    screen.line(&format!(
        "exec sh -c 'exec <&- >&- 2>&-; cat {} > {}; echo ba\"\"ck > /dev/tty; exit 5'",
        go.path().display(),
        gone.display()
    ));
    fs::write(go.path(), "meanwhile").unwrap();
    screen.until("back\r\n");
    assert_eq!(screen.exited().status, ExitStatus::Code(5));
    assert_eq!(fs::read(gone).unwrap(), b"meanwhile");
}

#[test]
fn a_hang_up_ends_the_shell_and_its_job() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let mut screen = Screen::ready(&agent, 1);
    screen.line(&format!("exec 9> {}; cat", lifeline.path().display()));
    let held = lifeline.held();
    screen.link.send(&HostFrame::HangUp { grace_ms: NEVER_MS });
    assert_eq!(screen.exited().status, ExitStatus::Signal(1));
    released(held);
}

#[test]
fn a_hang_up_ends_what_ignores_it_after_the_grace() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    screen.run("trap '' HUP");
    let grace = Duration::from_millis(500);
    let start = Instant::now();
    // Later ones do not put the end off.
    for grace_ms in [NEVER_MS, 500, NEVER_MS] {
        screen.link.send(&HostFrame::HangUp { grace_ms });
    }
    assert_eq!(screen.exited().status, ExitStatus::Signal(9));
    assert!(start.elapsed() >= grace, "it had {:?}", start.elapsed());
}

/// The shell ends by the hang-up itself, is forgotten, and the rest must still not stay.
#[test]
fn a_hang_up_ends_what_outlives_the_shell() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let mut screen = Screen::ready(&agent, 1);
    screen.line(&format!("(trap '' HUP; exec 9> {}; exec sleep 1000) &", lifeline.path().display()));
    let left_running = lifeline.held();
    screen.link.send(&HostFrame::HangUp { grace_ms: 2000 });
    assert_eq!(screen.exited().status, ExitStatus::Signal(1));
    screen.link.forget();
    released(left_running);
}

#[test]
fn a_kill_ends_all_descendants() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let mut screen = Screen::ready(&agent, 1);
    screen.line(&format!("exec 9> {}", lifeline.path().display()));
    let held = lifeline.held();
    screen.until(PROMPT);
    screen.run("setsid sh -c 'sleep 1000 & sleep 1000' & (setsid nohup sleep 1000 &)");
    screen.line("trap '' HUP TERM; sleep 1000");
    screen.link.send(&HostFrame::Kill);
    assert_eq!(screen.exited().status, ExitStatus::Signal(9));
    released(held);
}

#[test]
fn what_comes_after_the_end_has_no_effect() {
    let agent = Agent::start();
    let mut screen = Screen::ready(&agent, 1);
    screen.line("exit");
    screen.exited();
    screen.type_at(1_000_000, b"x");
    screen.link.send(&HostFrame::Resize(TerminalSize { columns: 1, rows: 1 }));
    screen.link.send(&signal(Signal::KILL));
    screen.link.send(&HostFrame::HangUp { grace_ms: 0 });
    screen.link.forget();
}

/// What is only for shells, sent to a command, breaks a rule; and so does a signal that does not exist.
#[test]
fn a_command_has_no_terminal() {
    let agent = Agent::start();
    let _running = agent.started(1, "sleep 1000");
    let _shell = Screen::ready(&agent, 2);
    let data: bytes::Bytes = b"x".to_vec().into();
    for (op, frame) in [
        (1, HostFrame::Input(pyro_protocol::Input { offset: 0, data })),
        (1, HostFrame::Resize(TerminalSize { columns: 1, rows: 1 })),
        (1, signal(Signal::INT)),
        (1, HostFrame::HangUp { grace_ms: 0 }),
        (2, HostFrame::Signal { signal: 0 }),
        (2, HostFrame::Signal { signal: 65 }),
    ] {
        let mut link = agent.attach(op, 0, 0);
        assert!(matches!(link.expect(), GuestFrame::Started(_)));
        link.send(&frame);
        while link.next().is_some() {}
    }
    assert!(agent.operations().iter().all(|operation| matches!(operation.phase, Phase::Running(_))));
}

#[test]
fn many_shells_work_at_once() {
    let agent = Agent::start();
    let mut screens: Vec<Screen> = (0..40).map(|op| Screen::open(&agent, shell(op))).collect();
    for (number, screen) in screens.iter_mut().enumerate() {
        screen.line(&format!("echo it is ''{number}.; cat"));
    }
    for (number, screen) in screens.iter_mut().enumerate().rev() {
        screen.until(&format!("it is {number}.\r\n"));
        screen.line(&format!("typed {number}"));
        screen.until(&format!("typed {number}\r\ntyped {number}\r\n"));
        screen.link.send(&HostFrame::HangUp { grace_ms: NEVER_MS });
    }
    for screen in &mut screens {
        screen.exited();
        screen.link.forget();
    }
    assert_eq!(agent.operations(), []);
}

/// Descriptors and terminals that stay open with each shell would end the agent of a long-lived workspace.
#[test]
fn nothing_stays_open_behind_a_shell() {
    let agent = Agent::start();
    let open = || fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    let round = |op| {
        let mut screen = Screen::ready(&agent, op);
        screen.line("exit");
        screen.exited();
        screen.link.forget();
        let mut link = agent.attach(op, 0, 0);
        assert_eq!(link.expect(), GuestFrame::UnknownOperation);
        assert_eq!(link.next(), None);
        open()
    };
    let first = (0..5).map(round).max();
    let last = (5..25).map(round).min();
    assert!(last <= first, "{last:?} descriptors are open in place of {first:?}");
}
