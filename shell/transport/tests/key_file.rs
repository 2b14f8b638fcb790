//! Key files.

use mainstay_transport::{ClusterKey, KeyError, KeyTextError, parse_key_text};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
};

fn mode(mode: u32) -> Permissions {
    Permissions::from_mode(mode)
}

/// Protects the way from `init` to a running cluster: what is written loads, is private, and is
/// never overwritten or printed.
#[test]
fn a_written_key_loads_and_is_never_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    let key = ClusterKey::generate().expect("random numbers");
    key.write_new(&path).expect("written");
    let meta = fs::metadata(&path).expect("there");
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    let before = fs::read(&path).expect("readable");
    let loaded = ClusterKey::load(&path).expect("loads");
    let again = dir.path().join("again");
    loaded.write_new(&again).expect("written");
    assert_eq!(fs::read(&again).expect("readable"), before);

    let other = ClusterKey::generate().expect("random numbers");
    let error = other.write_new(&path).expect_err("is there");
    assert!(matches!(error, KeyError::Exists(_)), "{error}");
    assert_eq!(fs::read(&path).expect("readable"), before);

    let text = String::from_utf8(before).expect("text");
    let digits = &text[text.trim_end().len() - 64..text.trim_end().len()];
    assert!(!format!("{loaded:?}").contains(&digits[..8]));
}

/// Protects the key from other users: any access of theirs is refused, with the command that mends it.
#[test]
fn access_for_others_is_refused_with_the_mend() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    let key = ClusterKey::generate().expect("random numbers");
    key.write_new(&path).expect("written");
    for bad in [0o640, 0o604, 0o620, 0o601, 0o666] {
        fs::set_permissions(&path, mode(bad)).expect("ours");
        let text = ClusterKey::load(&path).expect_err("refused").to_string();
        let mend = format!("chmod 600 {}", path.display());
        assert!(text.ends_with(&mend), "{text}");
        assert!(text.contains(&format!("{bad:04o}")), "{text}");
    }
    for good in [0o600, 0o400] {
        fs::set_permissions(&path, mode(good)).expect("ours");
        ClusterKey::load(&path).expect("private");
    }
    let link = dir.path().join("link");
    symlink(&path, &link).expect("linked");
    ClusterKey::load(&link).expect("the target counts");
}

/// Protects whoever mistyped a path or damaged a file: what is wrong and what would be right is said.
#[test]
fn missing_and_odd_files_are_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = ClusterKey::load(&dir.path().join("none")).expect_err("missing");
    assert!(matches!(error, KeyError::Missing(_)), "{error}");
    let error = ClusterKey::load(dir.path()).expect_err("a directory");
    assert!(matches!(error, KeyError::NotAFile(_)), "{error}");
    let path = dir.path().join("key");
    for content in ["", "mainstay-key-v1 12\n"] {
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, mode(0o600)).expect("ours");
        let text = ClusterKey::load(&path).expect_err("short").to_string();
        assert!(text.contains("64 hexadecimal digits"), "{text}");
    }
    fs::write(&path, vec![b'#'; 1 << 20]).expect("written");
    let error = ClusterKey::load(&path).expect_err("too long");
    assert!(
        matches!(
            error,
            KeyError::Text {
                error: KeyTextError::Long,
                ..
            }
        ),
        "{error}"
    );
}

/// Protects the parser: exactly one whole key line counts, anything else is named with its line.
#[test]
fn garbled_texts_are_refused_with_their_line() {
    let digits = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    let line = format!("mainstay-key-v1 {digits}");
    let error = |text: String| parse_key_text(text.as_bytes()).expect_err("refused");
    parse_key_text(line.as_bytes()).expect("no header is needed");
    parse_key_text(format!("# a\r\n\r\n{line}\r\n# b\n").as_bytes()).expect("comments anywhere");
    assert_eq!(error("# only\n".to_owned()), KeyTextError::Missing);
    assert_eq!(
        error(format!("#\n{digits}\n")),
        KeyTextError::Tag { line: 2 }
    );
    assert_eq!(
        error(format!("{}\n", line.replace("v1", "v2"))),
        KeyTextError::Tag { line: 1 }
    );
    assert_eq!(
        error(line[..line.len() - 1].to_owned()),
        KeyTextError::Digits { line: 1, found: 63 }
    );
    assert_eq!(
        error(line.replace("00", "0g")),
        KeyTextError::Digits { line: 1, found: 62 }
    );
    assert_eq!(
        error(format!("{line}\n{line}\n")),
        KeyTextError::Trailing { line: 2 }
    );
    assert_eq!(
        error(format!("mainstay-key-v1 {}", "0".repeat(64))),
        KeyTextError::Zero
    );
    assert_eq!(
        parse_key_text(b"\xff\xfe").expect_err("refused"),
        KeyTextError::NotText
    );
}
