//! Runs the text scenarios of `testing/scenarios`: what each flag does to each call on a lock in each state,
//! with the master on the caller's node, with the master on another node, and when the master has just died.
//! How to read and write them is told in the README there. `UPDATE_SCRIPTS=1` rewrites the traces.

#![allow(missing_docs, clippy::unwrap_used)]

mod world;

use mainstay_base::{LockMode, LockspaceId, NodeId, Owner, ResourceName, SessionId, ValueBlock};
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Flags, Granted},
    report::{LockReport, OwnerReport},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};
use world::World;

const MASTER: NodeId = NodeId(1);
const ACTORS: [&str; 3] = ["a", "b", "c"];
/// In which everything is said that follows from a call.
const SOON: Duration = Duration::from_millis(150);
/// In which a dead node is removed and proved harmless, and its resources are rebuilt.
const RECOVERED: Duration = Duration::from_secs(8);

/// Where the master is for who makes the call that a scenario is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Place {
    Near,
    Far,
    /// Far, and killed just before that call is made.
    Dying,
}

impl Place {
    const ALL: [Place; 3] = [Place::Near, Place::Far, Place::Dying];

    fn name(self) -> &'static str {
        match self {
            Place::Near => "near",
            Place::Far => "far",
            Place::Dying => "dying",
        }
    }

    fn node(self, actor: &str) -> NodeId {
        NodeId(match (self, actor) {
            (Place::Near, "a") => 1,
            (Place::Near, "b") | (Place::Far | Place::Dying, "a") => 2,
            (Place::Far, "c") => 1,
            (Place::Dying, "c") => 2,
            _ => 3,
        })
    }
}

/// A line of a script.
#[derive(Debug)]
enum Line {
    Text(String),
    Command { words: String, tested: bool },
}

/// A resource of its own, and what happens to it.
#[derive(Debug, Default)]
struct Section {
    lines: Vec<Line>,
}

fn parse(script: &str) -> Result<Vec<Section>, String> {
    let mut sections = vec![Section::default()];
    for (number, line) in script.lines().enumerate() {
        if line.starts_with("## ") {
            sections.push(Section::default());
        }
        let lines = &mut sections.last_mut().unwrap().lines;
        if let Some(words) = line.strip_prefix("> ").or_else(|| line.strip_prefix("! ")) {
            lines.push(Line::Command {
                words: words.to_owned(),
                tested: line.starts_with('!'),
            });
        } else if line.is_empty() || line.starts_with('#') {
            lines.push(Line::Text(line.to_owned()));
        } else if !line.starts_with("  ") {
            let number = number + 1;
            return Err(format!(
                "line {number}: neither `# comment`, `> command`, `! command` nor a trace: {line}"
            ));
        }
    }
    for section in &sections[1..] {
        let tested = |line: &&Line| matches!(line, Line::Command { tested: true, .. });
        if section.lines.iter().filter(tested).count() != 1 {
            return Err(format!("one `!` in each section: {:?}", section.lines[0]));
        }
    }
    Ok(sections)
}

/// A script in one place.
struct Stage {
    world: World,
    space: LockspaceId,
    place: Place,
    /// What has been read of what each session was told.
    read: BTreeMap<SessionId, usize>,
}

impl Stage {
    fn new(place: Place, sections: usize) -> Stage {
        let (world, space) = World::three();
        let mut stage = Stage {
            world,
            space,
            place,
            read: BTreeMap::new(),
        };
        for section in 0..sections {
            for actor in ACTORS {
                stage.open(section, actor);
            }
        }
        stage
    }

    /// Makes the node that is to master the resource of a section do so.
    fn prepare(&mut self, section: usize) {
        let handle = 1 + section as u64;
        let name = name(section);
        let ask = World::lock_ask(handle, self.space, &name, LockMode::Nl, Flags::NONE);
        let request = self.world.ask(MASTER, u64::from(MASTER.0), ask);
        self.world.granted(MASTER, request);
        let ask = World::unlock_ask(handle, Flags::NONE);
        let request = self.world.ask(MASTER, u64::from(MASTER.0), ask);
        self.world.wait(MASTER, request).unwrap();
    }

    fn open(&mut self, section: usize, actor: &str) {
        let (node, session) = (self.place.node(actor), session(section, actor));
        let owner = OwnerReport {
            pid: 1,
            uid: 0,
            command: actor.to_owned(),
            orphan_ms: None,
            owner: Owner::Session,
            broken: None,
        };
        let opened = Input::SessionOpened {
            session,
            owner,
            group: 0,
            privileged: true,
        };
        self.world.input(node, opened);
        let space = self.world.space(node, session.0);
        assert_eq!(space, self.space);
        let heard = self.world.hosts[&node].heard.len();
        self.read.insert(session, heard);
    }

    fn say(&mut self, section: usize, words: &str) -> Result<(), String> {
        let mut words = words.split_whitespace();
        let actor = words.next().unwrap_or_default();
        if actor == "locks" {
            return Ok(());
        }
        if !ACTORS.contains(&actor) {
            return Err(format!("`{actor}` is none of {ACTORS:?}"));
        }
        let verb = words.next().unwrap_or_default();
        let mut mode = None;
        if let "lock" | "convert" = verb {
            let word = words.next().unwrap_or_default();
            mode = Some(word.parse().map_err(|_| format!("`{word}` is no mode"))?);
        }
        let (mut flags, mut value, mut timeout_ms) = (Flags::NONE, None, None);
        for word in words {
            if let Some(text) = word.strip_prefix("value=") {
                value = Some(ValueBlock::new(text.as_bytes()).map_err(|e| e.to_string())?);
            } else if let Some(ms) = word.strip_prefix("timeout=") {
                timeout_ms = Some(ms.parse().map_err(|_| format!("`{ms}`: milliseconds"))?);
            } else {
                flags |= Flags::from_name(word).ok_or(format!("`{word}` is no flag"))?;
            }
        }
        let handle = Handle(1);
        let ask = match (verb, mode) {
            ("lock", Some(mode)) => Ask::Lock {
                handle,
                lockspace: self.space,
                name: ResourceName::new(name(section)).unwrap(),
                mode,
                flags,
                blocking: true,
                timeout_ms,
            },
            ("convert", Some(mode)) => Ask::Convert {
                handle,
                mode,
                flags,
                blocking: true,
                value,
                timeout_ms,
            },
            ("unlock", _) => Ask::Unlock {
                handle,
                flags,
                value,
            },
            ("cancel", _) => Ask::Cancel { handle },
            ("end", _) => {
                let closed = Input::SessionClosed {
                    session: session(section, actor),
                };
                self.world.input(self.place.node(actor), closed);
                return Ok(());
            }
            _ => return Err(format!("`{verb}`: lock, convert, unlock, cancel or end")),
        };
        let session = session(section, actor);
        self.world.ask(self.place.node(actor), session.0, ask);
        Ok(())
    }

    /// What the actors of a section were told since the last time.
    fn told(&mut self, section: usize, words: &str) -> Vec<String> {
        if words == "locks" {
            return self.locks(section);
        }
        let mut lines = Vec::new();
        for actor in ACTORS {
            let session = session(section, actor);
            let heard = &self.world.hosts[&self.place.node(actor)].heard;
            let read = self.read.insert(session, heard.len()).unwrap_or_default();
            let news = heard.iter().skip(read).filter(|(to, _)| *to == session);
            lines.extend(news.filter_map(|(_, what)| Some(format!("{actor} {}", tell(what)?))));
        }
        lines
    }

    fn locks(&mut self, section: usize) -> Vec<String> {
        let report = self.world.locks(1000, None);
        assert!(report.silent.is_empty() && !report.truncated);
        let mut resources = report.resources.iter();
        let name = ResourceName::new(name(section)).unwrap();
        let Some(resource) = resources.find(|resource| resource.name == name) else {
            return vec!["nothing".to_owned()];
        };
        let list = |what: &str, locks: &[LockReport]| {
            let mut told: Vec<String> = locks
                .iter()
                .map(|lock| {
                    let mode =
                        |mode: Option<LockMode>| mode.map_or(String::new(), |m| m.to_string());
                    let (granted, requested) = (mode(lock.granted), mode(lock.requested));
                    let to = if lock.granted.is_some() && lock.requested.is_some() {
                        " to "
                    } else {
                        ""
                    };
                    let orphan = match lock.owner.orphan_ms {
                        Some(_) => ", an orphan",
                        None => "",
                    };
                    format!("{} {granted}{to}{requested}{orphan}", lock.owner.command)
                })
                .collect();
            if what == "granted" {
                told.sort(); // They have no order.
            }
            (!told.is_empty()).then(|| format!("{what}: {}", told.join("; ")))
        };
        let lists = [
            list("granted", &resource.holders),
            list("converting", &resource.converters),
            list("waiting", &resource.waiters),
        ];
        let lists: Vec<String> = lists.into_iter().flatten().collect();
        match lists.is_empty() {
            true => vec!["nothing".to_owned()],
            false => lists,
        }
    }
}

fn name(section: usize) -> String {
    format!("scene-{section}")
}

fn session(section: usize, actor: &str) -> SessionId {
    let actor = ACTORS.iter().position(|a| *a == actor).unwrap();
    SessionId(100 + (section * ACTORS.len() + actor) as u64)
}

/// What a client is told, without tokens, which depend on the place.
fn tell(message: &ToClient) -> Option<String> {
    let granted = |granted: &Granted| {
        let mut text = format!("granted {}", granted.mode);
        if let Some(value) = &granted.value {
            let block = value.block.as_bytes();
            let end = block.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            let _ = match end {
                0 => write!(text, ", value zeros"),
                end => write!(text, ", value {:?}", String::from_utf8_lossy(&block[..end])),
            };
            if value.maybe_stale {
                text += ", perhaps stale";
            }
        }
        text
    };
    Some(match message {
        ToClient::Done { result, .. } => match result {
            Ok(Answer::Granted(grant)) => granted(grant),
            Ok(Answer::GrantedOtherwise {
                granted: grant,
                altmode,
                demoted,
            }) => {
                let mut text = granted(grant);
                if *altmode {
                    text += ", the alternate";
                }
                if *demoted {
                    text += ", after a demotion";
                }
                text
            }
            Ok(Answer::Unlocked { version: Some(_) }) => "unlocked, published".to_owned(),
            Ok(Answer::Unlocked { version: None }) => "unlocked".to_owned(),
            Ok(Answer::Cancelled) => "cancelled".to_owned(),
            Ok(Answer::Lockspace { .. }) => return None,
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => format!("refused: {refusal}"),
        },
        ToClient::Blocking { mode, .. } => format!("is in the way of {mode}"),
        ToClient::Demoted { .. } => "is demoted to nl".to_owned(),
        ToClient::Suspended { .. } | ToClient::Resumed => return None,
        other => panic!("{other:?}"),
    })
}

/// What every command of a script leads to in one place, in the order of the script.
fn play(sections: &[Section], place: Place) -> Result<Vec<Vec<String>>, String> {
    let mut stage = Stage::new(place, sections.len());
    let mut traces: Vec<Vec<Vec<String>>> = sections.iter().map(|_| Vec::new()).collect();
    let mut begun = vec![0; sections.len()];
    // What comes before the call that a section is about, that call, and what follows, in all sections at
    // a time: the master dies once.
    for part in ["before", "tested", "after"] {
        if part == "tested" && place == Place::Dying {
            stage.world.kill(MASTER);
        }
        let mut said = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            if part == "before" {
                stage.prepare(at);
            }
            while let Some(line) = section.lines.get(begun[at]) {
                if let Line::Command { words, tested } = line {
                    if *tested && part == "before" || !*tested && part == "tested" {
                        break;
                    }
                    stage
                        .say(at, words)
                        .map_err(|why| format!("{words}: {why}"))?;
                    if *tested {
                        said.push(at);
                        begun[at] += 1;
                        break;
                    }
                    stage.world.run(SOON);
                    traces[at].push(stage.told(at, words));
                }
                begun[at] += 1;
            }
        }
        if part == "tested" {
            stage.world.run(match place {
                Place::Dying => RECOVERED,
                Place::Near | Place::Far => SOON,
            });
            for at in said {
                traces[at].push(stage.told(at, ""));
            }
        }
    }
    Ok(traces.into_iter().flatten().collect())
}

/// The script with what happens now.
fn run(script: &str) -> Result<String, String> {
    let sections = parse(script)?;
    let mut played = Vec::new();
    for place in Place::ALL {
        played.push(play(&sections, place)?.into_iter());
    }
    let mut result = String::new();
    for line in sections.iter().flat_map(|section| &section.lines) {
        let (words, mark) = match line {
            Line::Text(text) => {
                result += &format!("{text}\n");
                continue;
            }
            Line::Command { words, tested } => (words, if *tested { '!' } else { '>' }),
        };
        result += &format!("{mark} {words}\n");
        let told: Vec<Vec<String>> = played.iter_mut().map(|t| t.next().unwrap()).collect();
        if told.iter().all(|lines| *lines == told[0]) {
            for line in &told[0] {
                result += &format!("  {line}\n");
            }
            continue;
        }
        // Where it matters where the master is, each place has its own.
        for (place, lines) in Place::ALL.iter().zip(&told) {
            for line in lines {
                result += &format!("  {}: {line}\n", place.name());
            }
            if lines.is_empty() {
                result += &format!("  {}: silence\n", place.name());
            }
        }
    }
    Ok(result)
}

fn check(file: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/scenarios");
    let path: PathBuf = root.join(format!("{file}.txt"));
    let script = std::fs::read_to_string(&path).unwrap();
    let now = run(&script).unwrap_or_else(|why| panic!("{file}: {why}"));
    if std::env::var_os("UPDATE_SCRIPTS").is_some_and(|v| v == "1") {
        return std::fs::write(&path, now).unwrap();
    }
    for (number, (filed, now)) in script.lines().zip(now.lines()).enumerate() {
        assert_eq!(filed, now, "{file}, line {}", number + 1);
    }
    assert_eq!(script.lines().count(), now.lines().count(), "{file}");
}

/// One test for each file, so that they run side by side.
macro_rules! scenarios {
    ($($file:ident),* $(,)?) => {
        $(#[test]
        fn $file() {
            check(stringify!($file));
        })*

        /// Protects the net: a file that no test runs proves nothing.
        #[test]
        fn every_file_is_run() {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/scenarios");
            let files = std::fs::read_dir(root).unwrap().map(|file| file.unwrap().path());
            let scripts = files.filter(|path| path.extension().is_some_and(|e| e == "txt"));
            let mut names: Vec<String> = scripts
                .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            names.sort();
            assert_eq!(names, [$(stringify!($file)),*]);
        }
    };
}

scenarios!(
    altcw,
    altpr,
    cancel,
    convdeadlk,
    expedite,
    forceunlock,
    headque,
    ivvalblk,
    nodlckblk,
    nodlckwt,
    none,
    noorder,
    noqueue,
    noqueuebast,
    persistent,
    quecvt,
    timeout,
    valblk,
);
