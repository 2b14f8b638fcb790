//! The comparison that the golden tests of all crates share, by `#[path]`.

/// Compares encodings with the golden ones: lines of `name = hexadecimal digits`. Returns the golden
/// bytes, to be read back.
///
/// # Panics
/// If bytes have changed, or a line is missing or left over; says what to do.
pub(crate) fn golden(
    file: &str,
    text: &str,
    version: &str,
    now: &[(String, Vec<u8>)],
) -> Vec<Vec<u8>> {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .collect();
    let mut missing = String::new();
    for (name, bytes) in now {
        match lines.iter().find(|(golden, _)| golden == name) {
            None => missing += &format!("{name} = {}\n", hex(bytes)),
            Some((_, golden)) => assert_eq!(
                hex(bytes),
                *golden,
                "{file}: the bytes of `{name}` have changed, and other builds (or older disks) have \
                 the old ones. If that is meant: raise {version}, go on reading the old format, and \
                 give the new one a line of its own. If not, put the field or variant back: enums \
                 grow at their end, and a struct that has to change becomes a new variant"
            ),
        }
    }
    assert!(
        missing.is_empty(),
        "{file} lacks lines; if the formats are new, add:\n{missing}"
    );
    for (name, _) in &lines {
        let made = now.iter().any(|(now, _)| now == name);
        assert!(
            made,
            "{file}: nothing makes `{name}` any more, but other builds may still send it"
        );
    }
    let byte = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok();
    let golden = |name: &String| {
        let (_, digits) = lines.iter().find(|(golden, _)| golden == name)?;
        digits
            .as_bytes()
            .chunks(2)
            .map(byte)
            .collect::<Option<Vec<u8>>>()
    };
    now.iter()
        .map(|(name, _)| {
            golden(name)
                .unwrap_or_else(|| panic!("{file}: `{name}` is no line of hexadecimal digits"))
        })
        .collect()
}
