//! Words of which only a few are allowed.

use super::FromText;

/// Declares an enum with its spellings; the first is the usual one, the others are understood too,
/// all of them in any case.
macro_rules! keyword {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($expected:literal) {
            $( $(#[$vmeta:meta])* $variant:ident = $text:literal $(| $other:literal)* ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )+
        }

        impl $name {
            /// The usual spelling.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $( $name::$variant => $text, )+
                }
            }
        }

        impl FromText for $name {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str) -> Option<$name> {
                let is = |word: &str| text.eq_ignore_ascii_case(word);
                $(
                    if is($text) $(|| is($other))* {
                        return Some($name::$variant);
                    }
                )+
                None
            }

            fn to_text(&self) -> String {
                self.as_str().to_owned()
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

keyword! {
    /// What a resource is, or shall be, on a node. The order is that of importance.
    pub enum Role("Stopped, Started, Promoted or Unpromoted") {
        /// Not running.
        Stopped = "Stopped",
        /// Running; of a promotable one, in either role.
        Started = "Started",
        /// Running and promotable, but not promoted.
        Unpromoted = "Unpromoted" | "Slave",
        /// Running and promoted.
        Promoted = "Promoted" | "Master",
    }
}

keyword! {
    /// What is done to a resource, as constraints name it.
    pub enum Action("start, stop, promote or demote") {
        /// Start it.
        Start = "start",
        /// Stop it.
        Stop = "stop",
        /// Give it the promoted role.
        Promote = "promote",
        /// Take the promoted role away.
        Demote = "demote",
    }
}

keyword! {
    /// How binding an order is.
    pub enum OrderKind("Mandatory, Optional or Serialize") {
        /// Counts only if both actions happen in the same transition.
        Optional = "Optional",
        /// The second does not happen without the first.
        Mandatory = "Mandatory",
        /// Never both at the same time, in whichever order.
        Serialize = "Serialize",
    }
}

keyword! {
    /// On which nodes it is asked whether a resource is running.
    pub enum Discovery("always, never or exclusive") {
        /// Also on this node.
        Always = "always",
        /// Never on this node.
        Never = "never",
        /// Only on nodes for which a constraint says so.
        Exclusive = "exclusive",
    }
}

keyword! {
    /// What happens to resources that lose their ticket.
    pub enum LossPolicy("stop, demote, fence or freeze") {
        /// They are stopped.
        Stop = "stop",
        /// They lose the promoted role.
        Demote = "demote",
        /// The nodes on which they run are fenced.
        Fence = "fence",
        /// They stay as they are.
        Freeze = "freeze",
    }
}

keyword! {
    /// How the conditions of a rule are combined.
    pub enum BooleanOp("and, or") {
        /// All must hold.
        And = "and",
        /// One must hold.
        Or = "or",
    }
}

keyword! {
    /// How an attribute is compared with a value.
    pub enum Comparison("lt, gt, lte, gte, eq, ne, defined or not_defined") {
        /// Less.
        Lt = "lt",
        /// Greater.
        Gt = "gt",
        /// Less or equal.
        Lte = "lte",
        /// Greater or equal.
        Gte = "gte",
        /// Equal.
        Eq = "eq",
        /// Not equal.
        Ne = "ne",
        /// The attribute has a value.
        Defined = "defined",
        /// The attribute has no value.
        NotDefined = "not_defined",
    }
}

keyword! {
    /// As what two values are compared.
    pub enum ValueType("string, integer, number or version") {
        /// Letter by letter, regardless of case.
        String = "string",
        /// As whole numbers.
        Integer = "integer",
        /// As numbers with fractions.
        Number = "number",
        /// As versions: 1.9 is below 1.10.
        Version = "version",
    }
}

keyword! {
    /// What the value of an expression is.
    pub enum ValueSource("literal, param or meta") {
        /// The value itself.
        Literal = "literal",
        /// The name of an instance attribute of the resource.
        Param = "param",
        /// The name of a meta attribute of the resource.
        Meta = "meta",
    }
}

keyword! {
    /// How a moment is compared.
    pub enum DateOperation("gt, lt, in_range or date_spec") {
        /// After the start.
        Gt = "gt",
        /// Before the end.
        Lt = "lt",
        /// From start to end.
        InRange = "in_range",
        /// At times that a specification describes.
        DateSpec = "date_spec",
    }
}

keyword! {
    /// Whether a colocated set is grouped.
    pub enum Ordering("group or listed") {
        /// As in a group.
        Group = "group",
        /// In the order in which they are listed.
        Listed = "listed",
    }
}

keyword! {
    /// What kind of node it is.
    pub enum NodeType("member, remote or ping") {
        /// A full member of the cluster.
        Member = "member" | "normal",
        /// A node that is managed through a connection, without a vote.
        Remote = "remote",
        /// A host that is only pinged (Heartbeat).
        Ping = "ping",
    }
}

keyword! {
    /// What follows when an operation fails.
    pub enum OnFail("ignore, block, demote, stop, restart, restart-container, fence or standby") {
        /// Nothing.
        Ignore = "ignore" | "nothing",
        /// The resource is left alone until an operator comes.
        Block = "block",
        /// The resource loses the promoted role.
        Demote = "demote",
        /// The resource is stopped.
        Stop = "stop",
        /// The resource is stopped and started, perhaps elsewhere.
        Restart = "restart",
        /// The container of the resource is restarted.
        RestartContainer = "restart-container",
        /// The node is fenced.
        Fence = "fence",
        /// All resources move away from the node.
        Standby = "standby",
    }
}

keyword! {
    /// What a resource needs before it may start.
    pub enum Requires("nothing, quorum, fencing or unfencing") {
        /// Nothing.
        Nothing = "nothing",
        /// A quorum.
        Quorum = "quorum",
        /// A quorum, and every unclean node fenced.
        Fencing = "fencing",
        /// The same, and its node unfenced.
        Unfencing = "unfencing",
    }
}

keyword! {
    /// What happens to a resource that runs on more nodes than it may.
    pub enum MultipleActive("block, stop_only, stop_start or stop_unexpected") {
        /// It is left alone until an operator comes.
        Block = "block",
        /// It is stopped everywhere and stays so.
        StopOnly = "stop_only",
        /// It is stopped everywhere and started where it belongs.
        StopStart = "stop_start",
        /// It is stopped where it does not belong.
        StopUnexpected = "stop_unexpected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects old configurations: the former names of roles and nodes are understood.
    #[test]
    fn former_names_are_understood() {
        assert_eq!(Role::from_text("master"), Some(Role::Promoted));
        assert_eq!(Role::from_text("Slave"), Some(Role::Unpromoted));
        assert_eq!(NodeType::from_text("normal"), Some(NodeType::Member));
        assert_eq!(OnFail::from_text("nothing"), Some(OnFail::Ignore));
        assert_eq!(Role::from_text("captain"), None);
    }
}
