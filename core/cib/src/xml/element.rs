//! The declaration of elements.

/// Declares an element: the type, its attributes and the elements that may stand in it, in the order
/// in which they are usually written. One field may take in elements of several names.
macro_rules! element {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            attributes {
                $( $(#[$ameta:meta])* $afield:ident : $aty:ty = $aname:literal ),* $(,)?
            }
            children {
                $( $(#[$cmeta:meta])* $cfield:ident : $cty:ty = $($ctag:literal)|+ ),* $(,)?
            }
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[$ameta])* pub $afield: $aty, )*
            $( $(#[$cmeta])* pub $cfield: $cty, )*
            /// Where the element begins.
            pub at: $crate::text::At,
            /// What the model has no field for.
            pub extra: $crate::xml::Extra,
        }

        impl $name {
            const ATTRIBUTES: &[&'static str] = &[$($aname),*];
            const CHILDREN: &[&[&'static str]] = &[$(&[$($ctag),+]),*];
        }

        impl $crate::xml::Child for $name {
            fn read(
                node: roxmltree::Node<'_, '_>,
                reader: &mut $crate::xml::Reader<'_>,
            ) -> Self {
                let mut this = Self::default();
                let attributes: &mut [&mut dyn $crate::xml::AttributeField] =
                    &mut [$(&mut this.$afield),*];
                let children: &mut [&mut dyn $crate::xml::ChildSlot] =
                    &mut [$(&mut this.$cfield),*];
                this.at = reader.at(node);
                this.extra =
                    reader.element(node, Self::ATTRIBUTES, attributes, Self::CHILDREN, children);
                this
            }

            fn write(&self, tag: &'static str, writer: &mut $crate::xml::Writer) {
                let attributes: &[&dyn $crate::xml::AttributeField] = &[$(&self.$afield),*];
                let children: &[&dyn $crate::xml::ChildSlot] = &[$(&self.$cfield),*];
                writer.element(
                    (tag, self.at),
                    Self::ATTRIBUTES,
                    attributes,
                    Self::CHILDREN,
                    children,
                    &self.extra,
                );
            }
        }
    };
}

pub(crate) use element;
