//! What a command has to tell, for people; and the one place that decides between this and JSON.
//!
//! Results go to standard output. Errors, warnings and the progress bar go to standard error, so that a bar never gets into a
//! file.
//!
//! # Invariants
//! - A reader that goes away (`| head`) never ends an install.

mod plan;
mod text;

use crate::events::{Event, Json, Phase, Progress};
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};

/// Without a terminal, a line of progress comes each so many percent.
const LINE_STEP_PERCENT: u64 = 10;

/// Where a command's results go.
pub struct Outlet {
    form: Form,
    /// The first failure of standard output, other than a reader that went away.
    failure: Option<io::Error>,
}

enum Form {
    Json(Json),
    Human(Human),
}

impl Outlet {
    /// Standard output, as JSON or for people.
    pub fn standard(json: bool) -> Self {
        Self::new(Box::new(io::stdout()), json)
    }

    /// Any writer, as JSON or for people.
    pub fn new(out: Box<dyn Write>, json: bool) -> Self {
        let form = if json {
            Form::Json(Json::new(out))
        } else {
            Form::Human(Human::new(out))
        };
        Self {
            form,
            failure: None,
        }
    }

    /// Tells an event. A failure is kept for [`take_failure`](Self::take_failure).
    pub fn tell(&mut self, event: &Event) {
        let told = match &mut self.form {
            Form::Json(json) => json.tell(event),
            Form::Human(human) => human.tell(event),
        };
        if let Err(error) = told
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.failure.get_or_insert(error);
        }
    }

    /// The first failure of standard output, if any.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }
}

/// Says something on standard error that does not end the command.
pub fn warn(text: &str) {
    // There is nowhere left to say that standard error is gone.
    let _ = writeln!(io::stderr(), "warning: {text}");
}

/// Says on standard error why a command ends.
pub fn fail(text: &str, help: Option<&str>) {
    let _ = writeln!(io::stderr(), "error: {text}");
    if let Some(help) = help {
        let _ = writeln!(io::stderr(), "help: {help}");
    }
}

/// Writes events as text.
struct Human {
    out: Box<dyn Write>,
    /// The bar, on a terminal.
    bar: Option<ProgressBar>,
    /// The last step of progress that had a line.
    last_step: u64,
}

impl Human {
    fn new(out: Box<dyn Write>) -> Self {
        Self {
            out,
            bar: None,
            last_step: 0,
        }
    }

    fn tell(&mut self, event: &Event) -> io::Result<()> {
        if let Event::Progress(progress) = event {
            return self.progress(progress);
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let text = text::text(event);
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        if self.bar.is_none() && io::stderr().is_terminal() {
            self.bar = Some(bar(progress.total_bytes));
        }
        if let Some(bar) = &self.bar {
            bar.set_message(phase(progress.phase));
            bar.set_position(progress.done_bytes);
            return Ok(());
        }
        let step = progress.percent() / LINE_STEP_PERCENT;
        if step <= self.last_step || progress.total_bytes == 0 {
            return Ok(());
        }
        self.last_step = step;
        let (done, total) = (
            BinaryBytes(progress.done_bytes),
            BinaryBytes(progress.total_bytes),
        );
        writeln!(
            self.out,
            "{:>3} %  {done} of {total}",
            step * LINE_STEP_PERCENT
        )?;
        self.out.flush()
    }
}

fn bar(total_bytes: u64) -> ProgressBar {
    let template = "{msg:10} [{bar:30}] {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
    let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::Writing => "writing",
        Phase::Syncing => "syncing",
        Phase::Activating => "activating",
        Phase::Checking => "checking",
    }
}

/// A number of things.
pub fn count(number: impl Into<u64>, thing: &str) -> String {
    match (number.into(), thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (number, Some(stem)) => format!("{number} {stem}ies"),
        (number, None) => format!("{number} {thing}s"),
    }
}
