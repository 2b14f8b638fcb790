//! `mainstay convert`

use super::cib::{Finding, Notation, content, describe, document, guess, worst};
use crate::{
    args::Global,
    exit::{BAD_DATA, CANNOT_CREATE, Failure, OK, Outcome},
    output,
};
use clap::Args;
use mainstay_cib::{
    Document, Level, Problem, heartbeat, native, problem, validate::validate, write,
};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "What is odd goes to standard error. Errors stop the conversion: a file that cannot \
    be read, or something that the other notation cannot say; with --force the rest is written \
    nevertheless.\n\n\
    Between Pacemaker's XML and the native form nothing is lost. Heartbeat 2 cannot say everything.\n\n\
    Examples:\n  mainstay convert --to native cib.xml > cluster.txt\n  \
    mainstay convert --to pacemaker cluster.txt --output cib.xml\n  \
    mainstay convert --from heartbeat2 --to pacemaker old.xml\n  \
    cibadmin -Q | mainstay convert --to native"
)]
pub(crate) struct ConvertArgs {
    /// The file; `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// The notation of the file. Without it, it is recognised
    #[arg(long, value_enum)]
    pub(crate) from: Option<Notation>,
    /// The notation to write
    #[arg(long, value_enum)]
    pub(crate) to: Notation,
    /// Write into this file rather than to standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write what can be written in spite of errors
    #[arg(long)]
    pub(crate) force: bool,
}

pub(crate) fn run(global: &Global, args: &ConvertArgs) -> Outcome {
    let text = content(&args.file)?;
    let from = args.from.unwrap_or_else(|| guess(&text));
    let (document, mut problems) = document(&text, from);
    let made = document.map(|document| {
        problems.extend(validate(&document.cib));
        let (text, more) = render(&document, args.to);
        problems.extend(more);
        text
    });
    problem::sort(&mut problems);
    let refused = worst(&problems) == Some(Level::Error);
    let made = made.filter(|_| !refused || args.force);
    if let (Some(text), Some(path)) = (&made, &args.output) {
        std::fs::write(path, text).map_err(|error| {
            let what = format!("cannot write {}: {error}", path.display());
            Failure::new(CANNOT_CREATE, what)
        })?;
    }
    if global.json {
        output::json(&serde_json::json!({
            "from": name(from),
            "to": name(args.to),
            "problems": problems.iter().map(Finding::new).collect::<Vec<_>>(),
            "text": made,
        }))?;
    } else {
        for problem in &problems {
            output::note(describe(&args.file, problem));
        }
        if let (Some(text), None) = (&made, &args.output) {
            output::print(text);
        }
    }
    Ok(if refused { BAD_DATA } else { OK })
}

fn name(notation: Notation) -> &'static str {
    match notation {
        Notation::Pacemaker => "pacemaker",
        Notation::Heartbeat2 => "heartbeat2",
        Notation::Native => "native",
    }
}

fn render(document: &Document, to: Notation) -> (String, Vec<Problem>) {
    match to {
        Notation::Pacemaker => (write(document), Vec::new()),
        Notation::Heartbeat2 => heartbeat::export(&document.cib),
        Notation::Native => (native::write(document), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn convert(dir: &Path, text: &str, to: Notation, force: bool) -> (u8, Option<String>) {
        let (file, output) = (dir.join("in"), dir.join("out"));
        let _ = std::fs::remove_file(&output);
        std::fs::write(&file, text).expect("written");
        let args = ConvertArgs {
            file,
            from: None,
            to,
            output: Some(output.clone()),
            force,
        };
        let global = Global {
            socket: PathBuf::new(),
            json: false,
        };
        let code = run(&global, &args).expect("converted");
        (code, std::fs::read_to_string(output).ok())
    }

    /// Protects those who move between notations: around the circle, the text comes back.
    #[test]
    fn all_three_notations_come_around() {
        let dir = tempfile::tempdir().expect("dir");
        let native = "cib epoch=1 num_updates=0 admin_epoch=0 have-quorum=false \
                      validate-with=pacemaker-3.0\n\
                      property stonith-enabled=true\nnode 1 n1 type=member\n\
                      primitive a ocf:heartbeat:Dummy\n  op monitor interval=10s\n\
                      order o Mandatory: a a\n";
        let dir = dir.path();
        let (code, xml) = convert(dir, native, Notation::Pacemaker, false);
        assert_eq!(code, OK);
        let xml = xml.expect("XML");
        let (code, old) = convert(dir, &xml, Notation::Heartbeat2, false);
        assert_eq!(code, OK);
        let old = old.expect("old XML");
        assert!(
            old.contains("<attributes>") && old.contains("type=\"before\""),
            "{old}"
        );
        let (code, again) = convert(dir, &old, Notation::Pacemaker, false);
        assert_eq!((code, again.as_deref()), (OK, Some(&*xml)));
        let (_, first) = convert(dir, &xml, Notation::Native, false);
        let (_, second) = convert(
            dir,
            first.as_deref().expect("native"),
            Notation::Native,
            false,
        );
        assert_eq!(first, second);
    }

    /// Protects from half a configuration: errors leave no file, unless somebody insists.
    #[test]
    fn errors_leave_no_file() {
        let dir = tempfile::tempdir().expect("dir");
        let dir = dir.path();
        let ticket = "primitive a systemd:a\nticket t T: a\n";
        let (code, text) = convert(dir, ticket, Notation::Heartbeat2, false);
        assert_eq!((code, text), (BAD_DATA, None));
        let (code, text) = convert(dir, ticket, Notation::Heartbeat2, true);
        assert_eq!(code, BAD_DATA);
        assert!(text.is_some_and(|t| !t.contains("rsc_ticket")));
        let (code, text) = convert(dir, "<cib", Notation::Native, true);
        assert_eq!((code, text), (BAD_DATA, None));
    }
}
