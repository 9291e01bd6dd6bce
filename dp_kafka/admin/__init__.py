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
from dp_kafka.admin.groups import GroupInfo, GroupMember, describe_group
from dp_kafka.admin.lag import LagReader, PartitionLag
from dp_kafka.admin.offsets import GroupOffsets, commit_offsets, ends_of, starts_of
from dp_kafka.admin.topics import (
    PartitionInfo,
    TopicInfo,
    TopicSetting,
    create_topic,
    list_topics,
    topic_info,
    topic_settings,
)
from dp_kafka.errors import AclError

__all__ = [
    "AclDifference",
    "AclError",
    "AclResult",
    "Acls",
    "Admin",
    "GroupInfo",
    "GroupMember",
    "GroupOffsets",
    "LagReader",
    "PartitionInfo",
    "PartitionLag",
    "TopicAuth",
    "TopicAuthList",
    "TopicInfo",
    "TopicSetting",
    "apply",
    "commit_offsets",
    "compare",
    "create_topic",
    "describe_group",
    "ends_of",
    "get_acls",
    "get_principal",
    "list_topics",
    "new_admin",
    "operation_name",
    "starts_of",
    "topic_info",
    "topic_settings",
]
