//! What commands print: results on standard output, everything else on standard error.

#![expect(clippy::print_stderr, reason = "the one place that writes to the terminal")]

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kernel::Error;

/// Prints a result line.
pub(crate) fn say(text: impl AsRef<str>) {
    // A reader that closed the pipe has read enough.
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

/// Prints lines; false where nobody reads them any more.
pub(crate) fn say_lines(lines: &[String]) -> bool {
    let mut text = lines.join("\n");
    text.push('\n');
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_ok()
}

/// Prints a remark.
pub(crate) fn note(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// Prints why a command failed.
pub(crate) fn fail(error: &Error) {
    eprintln!("error: {}", error.chain());
}

/// A bar over bytes, drawn where standard error is a terminal.
pub(crate) fn bytes_bar(total: u64) -> ProgressBar {
    bar(total, "{msg:14} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left")
}

/// A bar over steps, drawn where standard error is a terminal.
pub(crate) fn steps_bar(total: u64) -> ProgressBar {
    bar(total, "{msg:30} {bar:30} {pos}/{len} {elapsed}")
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), target).with_style(style)
}
