//! Where lines come from, and how to print while one is being typed.

use super::grammar::{self, Command, WORDS};
use crate::{exit::Failure, output};
use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::{
    CompletionType, Config, Context, Editor, ExternalPrinter, Helper, completion::Completer,
    error::ReadlineError, highlight::Highlighter, hint::Hinter, history::MemHistory,
    validate::Validator,
};
use std::io::{self, BufRead as _, IsTerminal as _};
use tokio::sync::mpsc;

/// A line and its number, counted from one.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) text: String,
}

/// Lines that may wait to be read.
const AHEAD: usize = 16;

/// The lines of standard input.
pub(super) struct Input {
    lines: mpsc::Receiver<io::Result<String>>,
    /// The terminal as it was, to be put back: the thread that edits a line cannot be interrupted.
    terminal: Option<Termios>,
    count: u64,
}

impl Input {
    /// Begins to read, with a line editor on a terminal.
    pub(super) fn open() -> Result<(Input, Printer), Failure> {
        let (sender, lines) = mpsc::channel(AHEAD);
        let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
        let (terminal, printer) = if interactive {
            let terminal = tcgetattr(io::stdin()).map_err(io::Error::from)?;
            let mut editor = editor().map_err(unusable)?;
            let printer = editor.create_external_printer().map_err(unusable)?;
            std::thread::spawn(move || edit(&mut editor, &sender));
            (Some(terminal), Printer::Above(Box::new(printer)))
        } else {
            std::thread::spawn(move || read(&sender));
            (None, Printer::Plain)
        };
        let input = Input {
            lines,
            terminal,
            count: 0,
        };
        Ok((input, printer))
    }

    /// Whether nobody types the lines.
    pub(super) fn is_script(&self) -> bool {
        self.terminal.is_none()
    }

    /// The next line; nothing at the end. What cannot be read ends the input.
    pub(super) async fn next(&mut self) -> Option<Line> {
        match self.lines.recv().await? {
            Ok(text) => {
                self.count += 1;
                let number = self.count;
                Some(Line { number, text })
            }
            Err(error) => {
                output::note(format_args!("mainstay: cannot read the input: {error}"));
                None
            }
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(terminal) = &self.terminal {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, terminal);
        }
    }
}

/// Prints lines.
pub(super) enum Printer {
    Plain,
    /// Above the line that is being typed.
    Above(Box<dyn ExternalPrinter + Send>),
}

impl Printer {
    pub(super) fn print(&mut self, text: &str) {
        match self {
            Printer::Plain => output::line(text),
            Printer::Above(printer) => {
                let coloured = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
                let shown = match coloured {
                    true => format!("{text}\n"),
                    false => format!("{}\n", strip_str(text)),
                };
                if printer.print(shown).is_err() {
                    output::line(text);
                }
            }
        }
    }
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::new(
        crate::exit::INTERNAL,
        format!("cannot edit lines on this terminal: {error}"),
    )
}

fn read(sender: &mpsc::Sender<io::Result<String>>) {
    for line in io::stdin().lock().lines() {
        if sender.blocking_send(line).is_err() {
            return;
        }
    }
}

fn edit(editor: &mut Editor<Words, MemHistory>, sender: &mpsc::Sender<io::Result<String>>) {
    loop {
        let line = match editor.readline("mainstay> ") {
            Ok(line) => Ok(line),
            Err(ReadlineError::Interrupted) => continue, // The line was given up.
            Err(ReadlineError::Eof) => return,
            Err(ReadlineError::Io(error)) => Err(error),
            Err(other) => Err(io::Error::other(other)),
        };
        // No further prompt behind the last command.
        let ends = match &line {
            Ok(line) => matches!(grammar::parse(line), Ok(Some(Command::Quit))),
            Err(_) => true,
        };
        if sender.blocking_send(line).is_err() || ends {
            return;
        }
    }
}

fn editor() -> Result<Editor<Words, MemHistory>, ReadlineError> {
    let config = Config::builder()
        .auto_add_history(true)
        .completion_type(CompletionType::List)
        .build();
    let history = MemHistory::with_config(&config);
    let mut editor = Editor::with_history(config, history)?;
    editor.set_helper(Some(Words));
    Ok(editor)
}

/// Completes the word that begins a line.
struct Words;

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..position).unwrap_or(line);
        if typed.contains(char::is_whitespace) {
            return Ok((position, Vec::new()));
        }
        let begun = WORDS.iter().filter(|(word, ..)| word.starts_with(typed));
        Ok((0, begun.map(|(word, ..)| format!("{word} ")).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
