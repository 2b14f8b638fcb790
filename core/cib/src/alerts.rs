//! Who is told what has happened.

use crate::{sets::AttributeSet, text::Str, xml::element};

element! {
    /// A program that is run when something has happened.
    pub struct Alert {
        attributes {
            /// Its id.
            id: Str = "id",
            /// What people say about it.
            description: Option<Str> = "description",
            /// The program.
            path: Str = "path",
        }
        children {
            /// Timeout, format of times, whether it is enabled.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Its environment.
            parameters: Vec<AttributeSet> = "instance_attributes",
            /// Of what it is told; all if absent.
            select: Option<Select> = "select",
            /// For whom it is run, once each.
            recipients: Vec<Recipient> = "recipient",
        }
    }
}

element! {
    /// Of what an alert is told.
    pub struct Select {
        attributes {}
        children {
            /// Of changes of node attributes.
            attributes: Option<SelectAttributes> = "select_attributes",
            /// Of fencing.
            fencing: Option<Selected> = "select_fencing",
            /// Of nodes that come and go.
            nodes: Option<Selected> = "select_nodes",
            /// Of operations on resources.
            resources: Option<Selected> = "select_resources",
        }
    }
}

element! {
    /// A kind of event that was selected.
    pub struct Selected {
        attributes {}
        children {}
    }
}

element! {
    /// Changes of node attributes.
    pub struct SelectAttributes {
        attributes {}
        children {
            /// Of which ones; all if there are none.
            attributes: Vec<SelectAttribute> = "attribute",
        }
    }
}

element! {
    /// An attribute that was selected.
    pub struct SelectAttribute {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// Its name.
            name: Str = "name",
        }
        children {}
    }
}

element! {
    /// For whom an alert is run.
    pub struct Recipient {
        attributes {
            /// Its id.
            id: Str = "id",
            /// What people say about it.
            description: Option<Str> = "description",
            /// What the program is given.
            value: Str = "value",
        }
        children {
            /// Settings for this one.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Its environment.
            parameters: Vec<AttributeSet> = "instance_attributes",
        }
    }
}

element! {
    /// The section of alerts.
    pub struct Alerts {
        attributes {}
        children {
            /// The alerts.
            items: Vec<Alert> = "alert",
        }
    }
}
