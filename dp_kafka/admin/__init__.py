"""Administration of a cluster: the admin client, ACLs of applications on topics, topics, and groups.

ACLs are those of the original: an application in a subnet of a domain is the principal
`User:CN=<app>.<subnet>.<domain>`, and is allowed operations on topics.
"""

from dp_kafka.admin.acls import (
    AclDifference,
    AclResult,
    Acls,
    TopicAuth,
    TopicAuthList,
    apply,
    compare,
    get_acls,
    get_principal,
    operation_name,
)
from dp_kafka.admin.client import Admin, new_admin

__all__ = [
    "AclDifference",
    "AclResult",
    "Acls",
    "Admin",
    "TopicAuth",
    "TopicAuthList",
    "apply",
    "compare",
    "get_acls",
    "get_principal",
    "new_admin",
    "operation_name",
]
