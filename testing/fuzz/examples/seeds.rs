//! Writes inputs made from real messages into the corpus; those that are there stay.

use mainstay_fuzz::{TARGETS, corpus, seeds};
use std::fs;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let dir = corpus(target);
        fs::create_dir_all(&dir)?;
        for (name, bytes) in seeds(target.name) {
            fs::write(dir.join(format!("seed-{name}")), bytes)?;
        }
    }
    Ok(())
}
