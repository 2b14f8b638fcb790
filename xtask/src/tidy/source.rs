//! Just enough of Rust's syntax to look for words in code and not in comments or strings.

/// The source with comments and the contents of literals blanked out, line by line as it was.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => line_end(&chars, at),
            ('/', Some('*')) => comment_end(&chars, at),
            ('"', _) => string_end(&chars, at),
            ('r', Some('"' | '#')) if !inside_word(&chars, at) => raw_end(&chars, at),
            ('\'', _) => char_end(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

fn inside_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(chars.len(), |n| at + n)
}

fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() {
        match chars[end] {
            '\\' => end += 2,
            '"' => return end + 1,
            _ => end += 1,
        }
    }
    chars.len()
}

/// `r"…"` and `r#"…"#`; `r#word` is no literal.
fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return at;
    }
    let mut end = open + 1;
    while end < chars.len() {
        let closed = chars[end] == '"'
            && chars[end + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes;
        if closed {
            return end + 1 + hashes;
        }
        end += 1;
    }
    chars.len()
}

/// `'x'` and `'\n'`; `'lifetime` is no literal.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let close = chars[at + 2..].iter().skip(1).position(|c| *c == '\'');
            close.map_or(at, |n| at + n + 4)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// Where a whole word or path occurs, as lines counted from 1.
pub(super) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let edge = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut lines = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let whole = line.match_indices(word).any(|(at, _)| {
            edge(line[..at].chars().next_back()) && edge(line[at + word.len()..].chars().next())
        });
        if whole {
            lines.push(index + 1);
        }
    }
    lines
}

/// All paths that `use` declarations bring in, written out, each with the line of its `use`.
pub(super) fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(at) = code[offset..].find("use ").map(|at| at + offset) {
        offset = at + 4;
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| !c.is_whitespace()) {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let end = code[offset..]
            .find(';')
            .map_or(code.len(), |end| end + offset);
        let tree: String = code[offset..end]
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let mut paths = Vec::new();
        expand("", &tree, &mut paths);
        found.extend(paths.into_iter().map(|path| (line, path)));
        offset = end;
    }
    found
}

fn expand(prefix: &str, tree: &str, out: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree).trim();
        let path = if name == "self" {
            prefix.trim_end_matches("::").to_owned()
        } else {
            format!("{prefix}{name}")
        };
        if !name.is_empty() {
            out.push(path);
        }
        return;
    };
    let close = tree.rfind('}').unwrap_or(tree.len());
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let mut depth = 0;
    let mut start = open + 1;
    let inside = &tree[..close];
    for (at, c) in inside.char_indices().skip_while(|(at, _)| *at <= open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inside[start..at], out);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &inside[start..], out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the purity rules from seeing words in comments and strings, and from missing code
    /// after them.
    #[test]
    fn comments_and_literals_are_blanked() {
        let source = "a /* x /* y */ z */ b // c\n\"d \\\" e\" f 'g' '\\'' 'h: r#\"i\"# j\nr#k";
        let code = code_only(source);
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "f", "'h:", "j", "r#k"]);
        assert_eq!(code.lines().count(), source.lines().count());
    }

    /// Protects the purity rules from grouped imports.
    #[test]
    fn imports_are_written_out() {
        let code = "use std::{\n    collections::{BTreeMap, HashMap as Map},\n    time::{self, Duration},\n};\npub use a::b;\n";
        let paths: Vec<String> = imports(code).into_iter().map(|(_, path)| path).collect();
        let expected = [
            "std::collections::BTreeMap",
            "std::collections::HashMap",
            "std::time",
            "std::time::Duration",
            "a::b",
        ];
        assert_eq!(paths, expected);
    }

    /// Protects names that merely contain a forbidden word.
    #[test]
    fn only_whole_words_count() {
        assert_eq!(lines_with("unsafe_code\nan unsafe {}\n", "unsafe"), [2]);
    }
}
