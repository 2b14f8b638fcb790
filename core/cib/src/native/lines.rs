//! Between text and lines: words, quotes, indentation.

use crate::{
    problem::{Level, Problem},
    text::{At, Str},
    xml::{DEEPEST, is_char},
};

/// A word of a line, perhaps with a name before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Word {
    /// In `name=value`, and in `$name=value` with the sign.
    pub(super) name: Option<String>,
    pub(super) value: String,
    pub(super) at: At,
}

/// A line with all that stands indented below it. A comment has the keyword `#`, and one word.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub(super) keyword: String,
    pub(super) words: Vec<Word>,
    pub(super) children: Vec<Line>,
    pub(super) at: At,
}

impl Line {
    pub(super) fn new(keyword: &str) -> Line {
        Line {
            keyword: keyword.to_owned(),
            ..Line::default()
        }
    }

    pub(super) fn word(&mut self, value: impl Into<String>) {
        self.words.push(Word {
            value: value.into(),
            ..Word::default()
        });
    }

    pub(super) fn named(&mut self, name: &str, value: &str) {
        self.words.push(Word {
            name: Some(name.to_owned()),
            value: value.to_owned(),
            at: At::default(),
        });
    }

    /// The words without a name.
    pub(super) fn plain(&self) -> impl Iterator<Item = &Word> {
        self.words.iter().filter(|w| w.name.is_none())
    }

    /// The words with a name.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &Word)> {
        self.words
            .iter()
            .filter_map(|w| Some((w.name.as_deref()?, w)))
    }

    pub(super) fn special(&self, name: &str) -> Option<&str> {
        let found = self.pairs().find(|(n, _)| *n == name);
        found.map(|(_, word)| &*word.value)
    }
}

pub(super) fn problem(at: At, keyword: &str, what: impl Into<String>, mend: &str) -> Problem {
    Problem {
        level: Level::Error,
        rule: "syntax",
        at,
        element: Str::from(keyword),
        id: None,
        what: what.into(),
        mend: mend.to_owned(),
    }
}

/// Takes a text apart.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Vec<Line> {
    // Lines that are still open, with their indentation; the first stands for the whole.
    let mut open: Vec<(usize, Line)> = vec![(0, Line::default())];
    let mut comment_goes_on = false;
    let mut lines = text.lines().enumerate();
    while let Some((index, full)) = lines.next() {
        let content = full.trim_start_matches(' ');
        let indent = full.len() - content.len();
        if content.trim_end().is_empty() {
            comment_goes_on = false;
            continue;
        }
        let begin = at(index, indent);
        if !fits(content, begin, problems) {
            continue;
        }
        while open.len() > 1 && open.last().is_some_and(|(own, _)| *own >= indent) {
            close(&mut open);
        }
        if open.len() == 1 && indent > 0 {
            let mend = "write it at the beginning of the line";
            let what = "the line is indented, but belongs to nothing";
            problems.push(problem(begin, "?", what, mend));
        }
        if let Some(text) = content.strip_prefix('#') {
            if let Some((_, parent)) = open.last_mut() {
                comment(&mut parent.children, text, begin, comment_goes_on);
            }
            comment_goes_on = true;
            continue;
        }
        comment_goes_on = false;
        if open.len() > DEEPEST {
            let what = format!("lines are nested more than {DEEPEST} deep");
            if problems.last().is_none_or(|p| p.what != what) {
                problems.push(problem(begin, "?", what, "indent it less"));
            }
            continue;
        }
        let mut line = Line {
            at: begin,
            ..Line::default()
        };
        let (mut piece, mut goes_on) = continued(content);
        words(piece, begin, &mut line.words, problems);
        while goes_on {
            let Some((index, full)) = lines.next() else {
                break;
            };
            let content = full.trim_start();
            let begin = at(index, full.chars().count() - content.chars().count());
            if !is_clean(content, begin, problems) {
                break;
            }
            (piece, goes_on) = continued(content);
            words(piece, begin, &mut line.words, problems);
        }
        match line.words.first() {
            None => continue,
            // A named value on a line of its own.
            Some(first) if first.name.is_some() => line.keyword = "=".to_owned(),
            Some(_) => line.keyword = line.words.remove(0).value,
        }
        open.push((indent, line));
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().map(|(_, l)| l.children).unwrap_or_default()
}

/// The place of a character, both counted from zero.
fn at(line: usize, column: usize) -> At {
    At {
        line: u32::try_from(line + 1).unwrap_or(u32::MAX),
        column: u32::try_from(column + 1).unwrap_or(u32::MAX),
    }
}

/// A character of a line further on.
fn further(begin: At, column: usize) -> At {
    let column = u32::try_from(column).unwrap_or(u32::MAX);
    At {
        column: begin.column.saturating_add(column),
        ..begin
    }
}

/// Whether a line can be looked at at all.
fn fits(content: &str, begin: At, problems: &mut Vec<Problem>) -> bool {
    if content.starts_with('\t') {
        let what = "the line is indented by a tab";
        problems.push(problem(begin, "?", what, "indent by spaces"));
        return false;
    }
    is_clean(content, begin, problems)
}

fn is_clean(content: &str, begin: At, problems: &mut Vec<Problem>) -> bool {
    let Some(column) = content.chars().position(|c| !is_char(c)) else {
        return true;
    };
    let what = "this character cannot be in a configuration";
    let mend = "take it out: XML has no way to write it";
    problems.push(problem(further(begin, column), "?", what, mend));
    false
}

/// A comment, or one more line of the one above.
fn comment(siblings: &mut Vec<Line>, text: &str, begin: At, goes_on: bool) {
    match siblings.last_mut() {
        Some(last) if goes_on && last.keyword == "#" => {
            for word in &mut last.words {
                word.value.push('\n');
                word.value.push_str(text);
            }
        }
        _ => {
            let mut line = Line::new("#");
            line.word(text);
            line.at = begin;
            siblings.push(line);
        }
    }
}

/// A backslash on its own at the end says that the next line belongs to this one.
fn continued(content: &str) -> (&str, bool) {
    let content = content.trim_end();
    match content.strip_suffix('\\') {
        Some(rest) if rest.is_empty() || rest.ends_with([' ', '\t']) => (rest, true),
        _ => (content, false),
    }
}

fn close(open: &mut Vec<(usize, Line)>) {
    if let (Some((_, line)), Some((_, parent))) = (open.pop(), open.last_mut()) {
        parent.children.push(line);
    }
}

fn words(text: &str, begin: At, words: &mut Vec<Word>, problems: &mut Vec<Problem>) {
    let at = |column| further(begin, column);
    let mut chars = text.chars().enumerate().peekable();
    while let Some(&(first, c)) = chars.peek() {
        if c == ' ' || c == '\t' {
            chars.next();
            continue;
        }
        let mut word = Word {
            at: at(first),
            ..Word::default()
        };
        // Inside quotes everything belongs to the word; outside, a blank ends it.
        let mut quote: Option<usize> = None;
        while let Some(&(column, c)) = chars.peek() {
            match c {
                '"' => quote = if quote.is_some() { None } else { Some(column) },
                '\\' if quote.is_some() => {
                    chars.next();
                    match chars.peek().map(|(_, c)| *c) {
                        Some('n') => word.value.push('\n'),
                        Some('t') => word.value.push('\t'),
                        Some('r') => word.value.push('\r'),
                        Some(c @ ('"' | '\\')) => word.value.push(c),
                        _ => {
                            let what = "a backslash in quotes stands before nothing known";
                            let mend =
                                "write \\\\ for a backslash; \\\", \\n, \\r and \\t are known";
                            problems.push(problem(at(column), "?", what, mend));
                        }
                    }
                }
                ' ' | '\t' if quote.is_none() => break,
                '=' if quote.is_none() && word.name.is_none() => {
                    word.name = Some(core::mem::take(&mut word.value));
                }
                c => word.value.push(c),
            }
            chars.next();
        }
        if let Some(column) = quote {
            let mend = "close it on the same line";
            problems.push(problem(at(column), "?", "this quote is not closed", mend));
        }
        words.push(word);
    }
}

/// Writes lines, indented by two spaces per level.
pub(super) fn render(lines: &[Line], depth: usize, out: &mut String) {
    for (index, line) in lines.iter().enumerate() {
        let indent = "  ".repeat(depth);
        if line.keyword == "#" {
            // An empty line tells a comment from the one before it.
            if index > 0 && lines[index - 1].keyword == "#" {
                out.push('\n');
            }
            for part in line.words.iter().flat_map(|w| w.value.split('\n')) {
                out.extend([&*indent, "#", part, "\n"]);
            }
            continue;
        }
        out.push_str(&indent);
        let begin = out.len();
        if line.keyword != "=" {
            quoted(&line.keyword, true, true, out);
        }
        for word in &line.words {
            // What begins a line must not look like a comment.
            let first = out.len() == begin;
            if !first {
                out.push(' ');
            }
            if let Some(name) = &word.name {
                quoted(name, true, first, out);
                out.push('=');
                if !word.value.is_empty() {
                    quoted(&word.value, false, false, out);
                }
            } else {
                quoted(&word.value, true, first, out);
            }
        }
        out.push('\n');
        render(&line.children, depth + 1, out);
    }
}

fn quoted(text: &str, equals_too: bool, begins_line: bool, out: &mut String) {
    let special = |c: char| {
        c.is_whitespace() || c.is_control() || c == '"' || c == '\\' || (equals_too && c == '=')
    };
    let comment = begins_line && text.starts_with('#');
    if !text.is_empty() && !text.contains(special) && !comment {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects values of any kind: what is written is read as the same.
    #[test]
    fn words_survive_their_quotes() {
        let mut line = Line::new("primitive");
        line.word("a b");
        line.word("");
        line.named("x=y", "1=2");
        line.named("t", "\"q\"\\\n\t\r ü");
        line.named("empty", "");
        let mut text = String::new();
        render(&[line.clone()], 0, &mut text);
        let mut problems = Vec::new();
        let again = parse(&text, &mut problems);
        assert_eq!((again, problems), (vec![line], vec![]), "{text}");
    }

    /// Protects structure: what is indented belongs to the line above, comments too, and what
    /// belongs nowhere is named with its place.
    #[test]
    fn indentation_makes_the_tree() {
        let mut problems = Vec::new();
        let lines = parse(
            "a\n   b\n   # one\n   # two\n\n   # three\n  c\nd\n",
            &mut problems,
        );
        assert_eq!(problems, []);
        let names =
            |lines: &[Line]| -> Vec<String> { lines.iter().map(|l| l.keyword.clone()).collect() };
        assert_eq!(names(&lines), ["a", "d"]);
        assert_eq!(names(&lines[0].children), ["b", "#", "#", "c"]);
        assert_eq!(lines[0].children[1].words[0].value, " one\n two");
        parse("a \"b\n \tc\n", &mut problems);
        let at: Vec<_> = problems.iter().map(|p| (p.at.line, p.at.column)).collect();
        assert_eq!(at, [(1, 3), (2, 2)]);
    }
}
