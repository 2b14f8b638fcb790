//! Rules: conditions on nodes, moments, resources and operations.

use crate::{
    text::Str,
    value::{
        BooleanOp, Comparison, DateOperation, DateTime, Interval, Range, Role, Score, ValueSource,
        ValueType,
    },
    xml::{Attr, choice, element},
};

element! {
    /// Conditions, combined by and (the default) or or. A rule without conditions always holds.
    pub struct Rule {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The id of the rule to use in place of this one.
            id_ref: Option<Str> = "id-ref",
            /// In a location: for which role it counts.
            role: Attr<Role> = "role",
            /// In a location: what a node gets on which the rule holds.
            score: Attr<Score> = "score",
            /// In a location: the node attribute that says what the node gets.
            score_attribute: Option<Str> = "score-attribute",
            /// How the conditions are combined.
            boolean_op: Attr<BooleanOp> = "boolean-op",
        }
        children {
            /// The conditions, in the order of the text.
            conditions: Vec<Condition> =
                "expression" | "date_expression" | "rsc_expression" | "op_expression" | "rule",
        }
    }
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// On an attribute of a node.
    Attribute(Expression),
    /// On the moment.
    Date(DateExpression),
    /// On the kind of a resource.
    Resource(ResourceExpression),
    /// On an operation.
    Operation(OperationExpression),
    /// On conditions of its own.
    Rule(Rule),
}

choice!(Condition {
    Attribute = "expression",
    Date = "date_expression",
    Resource = "rsc_expression",
    Operation = "op_expression",
    Rule = "rule",
});

element! {
    /// Compares an attribute of a node with a value. Besides attributes that are set, there are
    /// `#uname`, `#id`, `#kind`, `#is_dc`, `#ra-version`, `#site-name`, `#cluster-name` and `#role`.
    pub struct Expression {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The name of the attribute.
            attribute: Str = "attribute",
            /// How it is compared.
            operation: Attr<Comparison> = "operation",
            /// With what.
            value: Option<Str> = "value",
            /// As what both are compared. Absent: as numbers if both are, else as strings.
            value_type: Attr<ValueType> = "type",
            /// Where the value comes from.
            value_source: Attr<ValueSource> = "value-source",
        }
        children {}
    }
}

element! {
    /// A condition on the moment.
    pub struct DateExpression {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// How the moment is compared; in_range if absent.
            operation: Attr<DateOperation> = "operation",
            /// The beginning.
            start: Attr<DateTime> = "start",
            /// The end.
            end: Attr<DateTime> = "end",
        }
        children {
            /// How long after the start the end is.
            duration: Option<DateDuration> = "duration",
            /// At which times.
            spec: Option<DateSpec> = "date_spec",
        }
    }
}

element! {
    /// Times of the calendar: all that are given must match. Times are in UTC.
    pub struct DateSpec {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// 0 to 59.
            seconds: Attr<Range> = "seconds",
            /// 0 to 59.
            minutes: Attr<Range> = "minutes",
            /// 0 to 23.
            hours: Attr<Range> = "hours",
            /// Days of the month, 1 to 31.
            monthdays: Attr<Range> = "monthdays",
            /// Days of the week, Monday 1 to Sunday 7.
            weekdays: Attr<Range> = "weekdays",
            /// Days of the year, 1 to 366.
            yeardays: Attr<Range> = "yeardays",
            /// 1 to 12.
            months: Attr<Range> = "months",
            /// ISO weeks, 1 to 53.
            weeks: Attr<Range> = "weeks",
            /// Years.
            years: Attr<Range> = "years",
            /// Years of ISO weeks.
            weekyears: Attr<Range> = "weekyears",
            /// Phases of the moon, new 0 to full 4.
            moon: Attr<Range> = "moon",
        }
        children {}
    }
}

element! {
    /// A length of time by the calendar.
    pub struct DateDuration {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// Seconds.
            seconds: Attr<i64> = "seconds",
            /// Minutes.
            minutes: Attr<i64> = "minutes",
            /// Hours.
            hours: Attr<i64> = "hours",
            /// Days.
            days: Attr<i64> = "days",
            /// Weeks.
            weeks: Attr<i64> = "weeks",
            /// Months, of whatever length.
            months: Attr<i64> = "months",
            /// Years.
            years: Attr<i64> = "years",
        }
        children {}
    }
}

impl DateDuration {
    /// The moment that is this long after another one: years and months first.
    #[must_use]
    pub fn after(&self, start: DateTime) -> DateTime {
        let months = self
            .years
            .or(0)
            .saturating_mul(12)
            .saturating_add(self.months.or(0));
        let start = start.plus_months(months.clamp(-100_000, 100_000));
        let mut seconds = self.seconds.or(0);
        for (count, length) in [
            (self.minutes.or(0), 60),
            (self.hours.or(0), 3600),
            (self.days.or(0), 86_400),
            (self.weeks.or(0), 7 * 86_400),
        ] {
            seconds = seconds.saturating_add(count.saturating_mul(length));
        }
        DateTime(start.0.saturating_add(seconds))
    }
}

element! {
    /// A condition on the kind of a resource; what is absent matches all.
    pub struct ResourceExpression {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The class of agents.
            class: Option<Str> = "class",
            /// The provider.
            provider: Option<Str> = "provider",
            /// The agent.
            agent: Option<Str> = "type",
        }
        children {}
    }
}

element! {
    /// A condition on an operation.
    pub struct OperationExpression {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The name of the operation.
            name: Str = "name",
            /// Its interval; any if absent.
            interval: Attr<Interval> = "interval",
        }
        children {}
    }
}

element! {
    /// An old way to limit when a constraint counts.
    pub struct Lifetime {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
        }
        children {
            /// The rules.
            rules: Vec<Rule> = "rule",
        }
    }
}
