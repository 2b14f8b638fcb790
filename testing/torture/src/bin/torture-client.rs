//! A client as a process of its own. `hold SOCKET NAME` takes a lock, tells what becomes of it, and
//! ends with its standard input; `keep SOCKET NAME MS` has its session kept for so long.
//! `crowd SOCKET FIRST COUNT` does so with many sessions. `beat FILE` ignores SIGTERM and writes the time to FILE for ever.

use mainstay_client::{ClientBuilder, Held, now};
use mainstay_torture::{Record, crowd};
use std::{
    error::Error,
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Between two looks at the lock or the clock.
const PULSE: Duration = Duration::from_millis(1);

const SIGTERM: i32 = 15;
const SIG_IGN: usize = 1;

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["hold", socket, name] => hold(&ClientBuilder::new(socket), name),
        ["keep", socket, name, ms] => {
            let grace = Duration::from_millis(ms.parse()?);
            hold(&ClientBuilder::new(socket).keep(grace), name)
        }
        ["crowd", socket, first, count] => many(socket, first.parse()?, count.parse()?),
        ["beat", file] => beat(file),
        _ => Err("usage: torture-client hold SOCKET NAME | keep SOCKET NAME MS | crowd SOCKET FIRST COUNT | beat FILE".into()),
    }
}

fn tell(record: &Record) -> Result<(), Box<dyn Error>> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    Ok(std::io::stdout().write_all(line.as_bytes())?)
}

fn hold(builder: &ClientBuilder, name: &str) -> Result<(), Box<dyn Error>> {
    let client = builder.clone().connect_blocking()?;
    let space = client.lockspace("default").open()?;
    let lock = space.lock(name).acquire()?;
    let at = now().0;
    tell(&Record::Granted {
        token: lock.token().0,
        at,
    })?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Ends with the other end of the pipe; an error is an end too.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            over.store(true, Ordering::Relaxed);
        });
        watch(&lock, at, &over)
    })?;
    if lock.is_valid() {
        lock.unlock()?;
    }
    Ok(())
}

fn many(socket: &str, first: usize, count: usize) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let all = runtime.block_on(crowd::fill(Path::new(socket), first, count));
    let tell_held = || {
        let locks = all.iter().filter(|(_, lock)| lock.is_valid()).count();
        tell(&Record::Held { locks })
    };
    tell_held()?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    // Who is still there is still served.
    for (client, lock) in &all {
        let served = runtime.block_on(client.ping());
        assert!(served.is_ok() || !lock.is_valid(), "{served:?}");
    }
    tell_held()
}

fn watch(lock: &Held, granted: u64, over: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let mut last_held = granted;
    let mut lost = false;
    while !over.load(Ordering::Relaxed) {
        // The clock first: what is true after it was true then.
        let at = now().0;
        match lock.check() {
            Ok(_) if lost => tell(&Record::HeldAgain { at })?,
            Ok(_) => last_held = at,
            Err(_) if lost => {}
            Err(why) => {
                lost = true;
                tell(&Record::Lost {
                    last_held,
                    known_at: now().0,
                    why: why.to_string(),
                })?;
            }
        }
        thread::sleep(PULSE);
    }
    Ok(())
}

fn beat(file: &str) -> Result<(), Box<dyn Error>> {
    // SAFETY: SIG_IGN is a valid disposition, and no handler is installed for SIGTERM.
    unsafe { signal(SIGTERM, SIG_IGN) };
    let file = File::create(file)?;
    loop {
        file.write_all_at(&now().0.to_le_bytes(), 0)?;
        thread::sleep(PULSE);
    }
}
