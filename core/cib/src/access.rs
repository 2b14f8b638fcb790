//! Who may read and change what, and tags.

use crate::{
    text::Str,
    xml::{choice, element},
};

element! {
    /// A permission.
    pub struct Permission {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// read, write or deny; in the oldest notation, the name of the element says so.
            kind: Option<Str> = "kind",
            /// For what: a path.
            xpath: Option<Str> = "xpath",
            /// For what: an id.
            reference: Option<Str> = "reference",
            /// For what: an id (oldest notation).
            object: Option<Str> = "ref",
            /// For what: elements of this name.
            object_type: Option<Str> = "object-type",
            /// For what: elements of this name (oldest notation).
            tag: Option<Str> = "tag",
            /// For what: this attribute of them.
            attribute: Option<Str> = "attribute",
            /// What people say about it.
            description: Option<Str> = "description",
        }
        children {}
    }
}

/// A permission in the present or the oldest notation.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// In the present notation.
    Permission(Permission),
    /// To read.
    Read(Permission),
    /// To write.
    Write(Permission),
    /// Neither.
    Deny(Permission),
}

choice!(Grant {
    Permission = "acl_permission",
    Read = "read",
    Write = "write",
    Deny = "deny",
});

element! {
    /// Permissions that belong together.
    pub struct AclRole {
        attributes {
            /// Its id.
            id: Str = "id",
            /// What people say about it.
            description: Option<Str> = "description",
        }
        children {
            /// The permissions.
            grants: Vec<Grant> = "acl_permission" | "read" | "write" | "deny",
        }
    }
}

element! {
    /// A user or a group of users, with their roles.
    pub struct AclTarget {
        attributes {
            /// Its id; the name of the user unless there is a name.
            id: Str = "id",
            /// The name of the user.
            name: Option<Str> = "name",
        }
        children {
            /// Their roles.
            roles: Vec<RoleRef> = "role",
            /// Their roles (oldest notation).
            role_refs: Vec<RoleRef> = "role_ref",
            /// Permissions of their own (oldest notation).
            grants: Vec<Grant> = "read" | "write" | "deny",
        }
    }
}

element! {
    /// A role that someone has.
    pub struct RoleRef {
        attributes {
            /// The id of the role.
            id: Str = "id",
        }
        children {}
    }
}

element! {
    /// The section of permissions.
    pub struct Acls {
        attributes {}
        children {
            /// Users.
            targets: Vec<AclTarget> = "acl_target",
            /// Groups of users.
            groups: Vec<AclTarget> = "acl_group",
            /// Users (oldest notation).
            users: Vec<AclTarget> = "acl_user",
            /// Roles.
            roles: Vec<AclRole> = "acl_role",
        }
    }
}

element! {
    /// A name for several objects, which constraints and permissions may use.
    pub struct Tag {
        attributes {
            /// Its id, which is the name.
            id: Str = "id",
        }
        children {
            /// The objects.
            refs: Vec<ObjectRef> = "obj_ref",
        }
    }
}

element! {
    /// An object that has a tag.
    pub struct ObjectRef {
        attributes {
            /// The id of the object.
            id: Str = "id",
        }
        children {}
    }
}

element! {
    /// The section of tags.
    pub struct Tags {
        attributes {}
        children {
            /// The tags.
            items: Vec<Tag> = "tag",
        }
    }
}
