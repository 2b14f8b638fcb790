//! Fields of the model that are elements in XML.

use super::{read::Reader, write::Writer};
use roxmltree::Node;

/// What can stand inside an element.
pub(crate) trait Child: Sized {
    fn read(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Self;

    /// `tag` is the name under which the parent knows it.
    fn write(&self, tag: &'static str, writer: &mut Writer);
}

/// A field that holds children of one or several names.
pub(crate) trait ChildSlot {
    /// Takes a child in, or refuses it because there is no more room.
    fn take(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) -> bool;

    fn len(&self) -> usize;

    fn write(&self, index: usize, tag: &'static str, writer: &mut Writer);
}

impl<T: Child> ChildSlot for Vec<T> {
    fn take(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) -> bool {
        self.push(T::read(node, reader));
        true
    }

    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn write(&self, index: usize, tag: &'static str, writer: &mut Writer) {
        if let Some(child) = self.get(index) {
            child.write(tag, writer);
        }
    }
}

impl<T: Child> ChildSlot for Option<T> {
    fn take(&mut self, node: Node<'_, '_>, reader: &mut Reader<'_>) -> bool {
        let free = self.is_none();
        if free {
            *self = Some(T::read(node, reader));
        }
        free
    }

    fn len(&self) -> usize {
        usize::from(self.is_some())
    }

    fn write(&self, _: usize, tag: &'static str, writer: &mut Writer) {
        if let Some(child) = self {
            child.write(tag, writer);
        }
    }
}

impl<T: Child> Child for Box<T> {
    fn read(node: Node<'_, '_>, reader: &mut Reader<'_>) -> Self {
        Box::new(T::read(node, reader))
    }

    fn write(&self, tag: &'static str, writer: &mut Writer) {
        T::write(self, tag, writer);
    }
}

/// Declares how the variants of an enum are called in XML.
macro_rules! choice {
    ($name:ident { $($variant:ident = $tag:literal),+ $(,)? }) => {
        impl $crate::xml::Child for $name {
            fn read(
                node: roxmltree::Node<'_, '_>,
                reader: &mut $crate::xml::Reader<'_>,
            ) -> Self {
                $(
                    if node.tag_name().name() == $tag {
                        return $name::$variant($crate::xml::Child::read(node, reader));
                    }
                )+
                unreachable!("the parent lets only these names in")
            }

            fn write(&self, _: &'static str, writer: &mut $crate::xml::Writer) {
                match self {
                    $( $name::$variant(inner) => $crate::xml::Child::write(inner, $tag, writer), )+
                }
            }
        }
    };
}

pub(crate) use choice;
