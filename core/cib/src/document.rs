//! From text to a model, and back.

use crate::{
    cib::Cib,
    problem::{self, Level, Problem},
    text::{At, Str},
    xml::{Child, Verbatim, Writer, parse_moved},
};

/// A document: the model, and what stands around it in the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Comments before the outermost element.
    pub before: Vec<Verbatim>,
    /// The model.
    pub cib: Cib,
    /// Comments after the outermost element.
    pub after: Vec<Verbatim>,
}

/// What reading a document came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The document. With errors among the problems it is what could be understood, good for
    /// looking at but not for acting upon.
    pub document: Document,
    /// All that is wrong, in the order of the text.
    pub problems: Vec<Problem>,
}

impl Reading {
    /// The model, unless there are errors.
    ///
    /// # Errors
    /// All problems, if one of them is an error.
    pub fn accepted(self) -> Result<Cib, Vec<Problem>> {
        if self.problems.iter().any(|p| p.level == Level::Error) {
            Err(self.problems)
        } else {
            Ok(self.document.cib)
        }
    }
}

/// Reads Pacemaker's XML, of schema 1.0 and later. References are not followed: see
/// [`validate`](crate::validate::validate).
///
/// # Errors
/// If the text is not XML, or something else than a CIB.
pub fn read(text: &str) -> Result<Reading, Problem> {
    read_moved(text, None)
}

/// The same for a text that was made of another notation.
pub(crate) fn read_moved(text: &str, moved: Option<&[At]>) -> Result<Reading, Problem> {
    let (read, mut problems) = parse_moved(text, moved, |root, reader| {
        if root.tag_name().name() != "cib" || root.tag_name().namespace().is_some() {
            let at = reader.at(root);
            let what = format!("the outermost element is <{}>", root.tag_name().name());
            let mend = "give a whole CIB, from <cib …> to </cib>".to_owned();
            reader.problem(Level::Error, "no-cib", at, root, what, mend);
            return Err(reader.problems.pop());
        }
        if let Some(old) = old_form(root) {
            let at = reader.at(old);
            let what = "this is Heartbeat's notation".to_owned();
            let mend = "read it as Heartbeat's: --from heartbeat2".to_owned();
            reader.problem(Level::Error, "heartbeat", at, old, what, mend);
            return Err(reader.problems.pop());
        }
        let mut document = Document::default();
        for node in root.document().root().children() {
            if node == root {
                document.cib = Cib::read(root, reader);
            } else if document.cib.at.is_nowhere() {
                document.before.push(reader.verbatim(node));
            } else {
                document.after.push(reader.verbatim(node));
            }
        }
        Ok(document)
    })?;
    problem::sort(&mut problems);
    match read {
        Ok(document) => Ok(Reading { document, problems }),
        Err(problem) => Err(problem.unwrap_or_else(|| Problem {
            level: Level::Error,
            rule: "no-cib",
            at: At::default(),
            element: Str::from("?"),
            id: None,
            what: "this is no CIB".to_owned(),
            mend: "give a whole CIB, from <cib …> to </cib>".to_owned(),
        })),
    }
}

/// An element that only Heartbeat wrote: `<attributes>` around named values.
fn old_form<'a, 'input>(root: roxmltree::Node<'a, 'input>) -> Option<roxmltree::Node<'a, 'input>> {
    root.descendants().find(|n| {
        n.has_tag_name("attributes") && n.children().any(|c| c.has_tag_name("nvpair"))
            || n.has_tag_name("master_slave")
    })
}

/// Writes a document, with what stood around the outermost element.
#[must_use]
pub fn write(document: &Document) -> String {
    let mut writer = Writer::default();
    for node in &document.before {
        writer.verbatim(node);
    }
    document.cib.write("cib", &mut writer);
    for node in &document.after {
        writer.verbatim(node);
    }
    writer.finish()
}

impl Cib {
    /// The XML of the model.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::default();
        self.write("cib", &mut writer);
        writer.finish()
    }

    /// The same, and for each line where what stands on it was read.
    pub(crate) fn to_xml_with_places(&self) -> (String, Vec<At>) {
        let mut writer = Writer::default();
        self.write("cib", &mut writer);
        writer.finish_with_places()
    }
}

impl Reading {
    /// Adds the problems [across elements](crate::validate::validate).
    #[must_use]
    pub fn validated(mut self) -> Reading {
        let mut found = crate::validate::validate(&self.document.cib);
        self.problems.append(&mut found);
        problem::sort(&mut self.problems);
        self
    }
}
