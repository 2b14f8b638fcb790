//! Asking agents what they say of themselves.

use mainstay_cib::{
    Cib, Level, Problem,
    agents::{Agent, Agents},
    index::Index,
    resources::{Primitive, Resource},
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Where fence agents are.
const FENCE_AGENTS: &str = "/usr/sbin";
/// How long an agent may take to describe itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any agent says of itself, in bytes.
const LONGEST: u64 = 1 << 20;

/// Asks every agent of a configuration that is installed below `root`; says which could not be asked.
pub(crate) fn ask_all(cib: &Cib, root: &Path) -> (Agents, Vec<Problem>) {
    let (mut agents, mut problems) = (Agents::new(), Vec::new());
    let mut refused = std::collections::BTreeSet::new();
    let index = Index::new(cib);
    let primitives = cib.resources().iter().flat_map(Resource::primitives);
    for primitive in primitives.filter_map(|p| index.whole(p)) {
        let name = primitive.agent_name();
        if agents.contains_key(&name) || refused.contains(&name) {
            continue;
        }
        let Some(command) = command(&primitive, root) else {
            continue;
        };
        match command.and_then(|c| run(c, PATIENCE)).and_then(|text| {
            let agent = Agent::read(&text);
            agent.map_err(|problem| format!("it describes itself wrongly: {problem}"))
        }) {
            Ok(agent) => {
                agents.insert(name, agent);
            }
            Err(reason) => {
                problems.push(Problem {
                    level: Level::Note,
                    rule: "agent-not-asked",
                    at: primitive.at,
                    element: "primitive".into(),
                    id: Some(primitive.id.clone()),
                    what: format!("{name} could not be asked about itself: {reason}"),
                    mend: "check the configuration on a host that has this agent".to_owned(),
                });
                refused.insert(name);
            }
        }
    }
    (agents, problems)
}

/// The command that makes an agent describe itself; none for classes that do not.
fn command(primitive: &Primitive, root: &Path) -> Option<Result<Command, String>> {
    let agent = primitive.agent.as_deref()?;
    let path = match primitive.class.as_deref()? {
        "ocf" => {
            let provider = primitive.provider.as_deref()?;
            if !is_plain(provider) {
                return Some(Err(format!("{provider:?} cannot be a provider")));
            }
            root.join("resource.d").join(provider).join(agent)
        }
        "stonith" if agent.starts_with("fence_") => PathBuf::from(FENCE_AGENTS).join(agent),
        _ => return None,
    };
    // The configuration may come from anywhere; it does not say what is run outside these folders.
    if !is_plain(agent) {
        return Some(Err(format!("{agent:?} cannot be an agent")));
    }
    if !path.is_file() {
        return Some(Err(format!("there is no {}", path.display())));
    }
    let mut command = Command::new(path);
    if primitive.is_fencing() {
        command.args(["-o", "metadata"]);
    } else {
        command.arg("meta-data").env("OCF_ROOT", root);
    }
    Some(Ok(command))
}

/// Whether a text is the name of a file in its folder.
fn is_plain(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(fits)
}

/// What a command prints.
fn run(mut command: Command, patience: Duration) -> Result<String, String> {
    let command = command.stdin(Stdio::null()).stderr(Stdio::null());
    let spawned = command.stdout(Stdio::piped()).process_group(0).spawn();
    let mut child = spawned.map_err(|error| format!("it does not start: {error}"))?;
    let deadline = Instant::now() + patience;
    let (sender, receiver) = mpsc::channel();
    let output = child.stdout.take();
    thread::spawn(move || {
        let mut text = String::new();
        let read = match output {
            Some(output) => output.take(LONGEST).read_to_string(&mut text),
            None => Ok(0),
        };
        // Nobody listens any more after the deadline.
        let _ = sender.send(read.map(|_| text));
    });
    let text = receiver.recv_timeout(patience);
    if !ends(&mut child, deadline) {
        end(&mut child);
        return Err(format!("it takes longer than {} s", patience.as_secs()));
    }
    match text {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(format!("its output cannot be read: {error}")),
        Err(_) => Err("something of it still runs".to_owned()),
    }
}

fn ends(child: &mut Child, deadline: Instant) -> bool {
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => return false,
        }
    }
}

/// Ends a command and what it has started.
fn end(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_cib::native;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn agent(root: &Path, name: &str, script: &str) {
        let dir = root.join("resource.d/test");
        fs::create_dir_all(&dir).expect("dir");
        fs::write(dir.join(name), script).expect("written");
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.join(name), all).expect("executable");
    }

    /// Protects the check from what agents do: those that describe themselves are understood, the others
    /// are named once with the reason, and nothing outside their folder is run.
    #[test]
    fn agents_describe_themselves() {
        let root = tempfile::tempdir().expect("dir");
        let root = root.path();
        let good = "#!/bin/sh\n[ \"$1\" = meta-data ] && echo '<resource-agent name=\"a\"><actions>\
                    <action name=\"stop\" timeout=\"9s\"/></actions></resource-agent>'\n";
        agent(root, "good", good);
        agent(root, "bad", "#!/bin/sh\necho no XML\n");
        fs::write(root.join("outside"), good).expect("written");
        let text = "primitive a ocf:test:good\nprimitive b ocf:test:good\nprimitive c ocf:test:bad\n\
                    primitive d ocf:test:none\nprimitive e \"ocf:../..:outside\"\n\
                    primitive f systemd:x\nprimitive g ocf:test:../../outside\n";
        let cib = native::read(text).expect("read").document.cib;
        let (agents, problems) = ask_all(&cib, root);
        assert_eq!(agents.len(), 1);
        let advice = agents["ocf:test:good"].advice("stop", None);
        assert_eq!(advice.map(|i| i.millis()), Some(9000));
        let lines: Vec<_> = problems.iter().map(|p| p.at.line).collect();
        assert_eq!(lines, [3, 4, 5, 7], "{problems:?}");
    }

    /// Protects from agents that hang: they are ended, with what they have started.
    #[test]
    fn agents_that_hang_are_ended() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & sleep 1000"]);
        let begin = Instant::now();
        let error = run(command, Duration::from_millis(50)).expect_err("hangs");
        assert!(error.contains("longer"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(100));
    }
}
