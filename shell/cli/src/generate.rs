//! What is generated from the description of the command line: completions, man pages, help.

use crate::{
    args::Cli,
    exit::{self, CANNOT_CREATE, Failure, OK, Outcome},
    output,
};
use clap::{Command, CommandFactory as _};
use std::path::Path;

pub(crate) fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mainstay", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(OK)
}

pub(crate) fn man(dir: Option<&Path>) -> Outcome {
    let command = Cli::command();
    match dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            output::print(&String::from_utf8_lossy(&page));
        }
        Some(dir) => {
            let written =
                std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, dir));
            written.map_err(|error| {
                let text = format!("cannot write man pages to {}: {error}", dir.display());
                Failure::new(CANNOT_CREATE, text)
            })?;
        }
    }
    Ok(OK)
}

pub(crate) fn help(topic: &[String]) -> Outcome {
    if topic.len() == 1 && topic[0] == "exit-codes" {
        output::line(exit::TABLE);
        return Ok(OK);
    }
    let mut root = Cli::command();
    root.build();
    let mut command: &mut Command = &mut root;
    for word in topic {
        let name = command.get_name().to_owned();
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            Failure::usage(format!(
                "`{name}` has no command `{word}`; `mainstay help` lists them, and there is \
                 `mainstay help exit-codes`"
            ))
        })?;
    }
    let text = command.render_long_help();
    output::print(&text.ansi().to_string());
    Ok(OK)
}
