//! The installation of an environment as people see it: a bar on a terminal, lines elsewhere.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pyro_api::PullProgress;

use crate::sanitize;
use crate::sink::Sink;

/// Phase of the contract with which every installation begins.
const INSTALL: &str = "install";

/// Phase of the contract with which every installation ends.
const READY: &str = "ready";

/// Steps of the bar: finer than any terminal can show.
const BAR_STEPS: f64 = 1000.0;

/// How often the time on the bar is redrawn when nothing else changes.
const TICK: Duration = Duration::from_millis(200);

/// Shows one installation.
#[derive(Debug)]
pub(crate) struct PullView {
    environment: String,
    bar: Option<ProgressBar>,
    phase: Cow<'static, str>,
}

impl PullView {
    /// Begins.
    pub(crate) fn new(environment: &str, stderr: &mut Sink) -> io::Result<Self> {
        let mut view = Self { environment: sanitize::line(environment), bar: None, phase: INSTALL.into() };
        view.line(stderr)?;
        view.bar = stderr.is_terminal().then(bar);
        Ok(view)
    }

    /// Shows how far it has come.
    pub(crate) fn update(&mut self, progress: &PullProgress, stderr: &mut Sink) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            if let Some(fraction) = progress.fraction {
                bar.set_position(steps(fraction));
            }
            bar.set_message(sanitize::line(&progress.detail));
        }
        if self.phase != progress.phase {
            self.phase = progress.phase.clone().into();
            // The last line is written when the pull has succeeded as a whole.
            if self.bar.is_none() && self.phase != READY {
                self.line(stderr)?;
            }
        }
        Ok(())
    }

    /// Ends with success.
    pub(crate) fn ready(mut self, stderr: &mut Sink) -> io::Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.phase = READY.into();
        self.line(stderr)
    }

    fn line(&self, stderr: &mut Sink) -> io::Result<()> {
        stderr.own(&format!(
            "[pull] phase={} environment={}\n",
            sanitize::line(&self.phase),
            self.environment
        ))
    }
}

impl Drop for PullView {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:30}] {percent:>3}% {elapsed} {wide_msg}")
        .expect("the template is well formed")
        .progress_chars("=> ");
    let bar = ProgressBar::new(steps(1.0)).with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction is clamped to 0 and 1 first; NaN becomes 0"
)]
fn steps(fraction: f64) -> u64 {
    (fraction.clamp(0.0, 1.0) * BAR_STEPS) as u64
}
