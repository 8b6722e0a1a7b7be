package policy

import future.keywords.every
import future.keywords.in

api_version := "0.11.0"
framework_version := "0.2.3"

fragments := [
  {
    "feed": "mcr.microsoft.com/aci/aci-cc-infra-fragment",
    "includes": [
      "containers",
      "fragments"
    ],
    "issuer": "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.3",
    "minimum_svn": "4"
  }
]

containers := [{"allow_elevated":true,"allow_stdio_access":false,"capabilities":null,"command":["/cloisterd","serve","--share","/mnt","--specification-digest","sha256:25f6df2df71dc5a50846200479742279587676996e6d863c804f1449fc5725ee","--ledger-key","ledger.example+47b56cb0+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH"],"env_rules":[{"pattern":"TERM=xterm","required":false,"strategy":"string"},{"pattern":"^(?i)(FABRIC)_.+=.+$","required":false,"strategy":"re2"},{"pattern":"^HOSTNAME=.+$","required":false,"strategy":"re2"},{"pattern":"^T(E)?MP=.+$","required":false,"strategy":"re2"},{"pattern":"^FabricPackageFileName=.+$","required":false,"strategy":"re2"},{"pattern":"^HostedServiceName=.+$","required":false,"strategy":"re2"},{"pattern":"^IDENTITY_API_VERSION=.+$","required":false,"strategy":"re2"},{"pattern":"^IDENTITY_HEADER=.+$","required":false,"strategy":"re2"},{"pattern":"^IDENTITY_SERVER_THUMBPRINT=.+$","required":false,"strategy":"re2"},{"pattern":"^azurecontainerinstance_restarted_by=.+$","required":false,"strategy":"re2"},{"pattern":"^CLOISTER_SPECIFICATION=[A-Za-z0-9+/]+=*$","required":false,"strategy":"re2"},{"pattern":"^CLOISTER_POLICIES=[A-Za-z0-9+/]+=*$","required":false,"strategy":"re2"},{"pattern":"AZURE_CLIENT_ID=00000000-0000-0000-0000-00000000000a","required":false,"strategy":"string"}],"exec_processes":[],"id":"registry.example/cloister/runtime@sha256:efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef","layers":["3333333333333333333333333333333333333333333333333333333333333333"],"mounts":[{"destination":"/etc/resolv.conf","options":["rbind","rshared","rw"],"source":"sandbox:///tmp/atlas/resolvconf/.+","type":"bind"},{"destination":"/mnt","options":["rbind","rshared","rw"],"source":"sandbox:///tmp/atlas/emptydir/.+","type":"bind"}],"name":"cloister-runtime","no_new_privileges":false,"seccomp_profile_sha256":"","signals":[15],"user":{"group_idnames":[{"pattern":"","strategy":"any"}],"umask":"0022","user_idname":{"pattern":"0","strategy":"id"}},"working_dir":"/run"},{"allow_elevated":false,"allow_stdio_access":false,"capabilities":{"ambient":[],"bounding":[],"effective":[],"inheritable":[],"permitted":[]},"command":["/cloister-shim","--share","/mnt","--specification-digest","sha256:25f6df2df71dc5a50846200479742279587676996e6d863c804f1449fc5725ee","--mount","/mnt/data","--mount","/mnt/model","--mount","/mnt/out","--env","GREETING=a: b # no comment","--env","LEVEL=2","--","/usr/bin/count","--all","/mnt/data"],"env_rules":[{"pattern":"PATH=/usr/bin:/bin","required":true,"strategy":"string"},{"pattern":"LANG=C.UTF-8","required":true,"strategy":"string"},{"pattern":"TERM=xterm","required":false,"strategy":"string"},{"pattern":"^(?i)(FABRIC)_.+=.+$","required":false,"strategy":"re2"},{"pattern":"^HOSTNAME=.+$","required":false,"strategy":"re2"},{"pattern":"^T(E)?MP=.+$","required":false,"strategy":"re2"},{"pattern":"^FabricPackageFileName=.+$","required":false,"strategy":"re2"},{"pattern":"^HostedServiceName=.+$","required":false,"strategy":"re2"},{"pattern":"^IDENTITY_API_VERSION=.+$","required":false,"strategy":"re2"},{"pattern":"^IDENTITY_HEADER=.+$","required":false,"strategy":"re2"},{"pattern":"^IDENTITY_SERVER_THUMBPRINT=.+$","required":false,"strategy":"re2"},{"pattern":"^azurecontainerinstance_restarted_by=.+$","required":false,"strategy":"re2"}],"exec_processes":[],"id":"registry.example/lab/count@sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","layers":["1111111111111111111111111111111111111111111111111111111111111111","2222222222222222222222222222222222222222222222222222222222222222"],"mounts":[{"destination":"/etc/resolv.conf","options":["rbind","rshared","rw"],"source":"sandbox:///tmp/atlas/resolvconf/.+","type":"bind"},{"destination":"/mnt","options":["rbind","rshared","ro"],"source":"sandbox:///tmp/atlas/emptydir/.+","type":"bind"}],"name":"count","no_new_privileges":true,"seccomp_profile_sha256":"","signals":[15],"user":{"group_idnames":[{"pattern":"1000","strategy":"id"}],"umask":"0022","user_idname":{"pattern":"1000","strategy":"id"}},"working_dir":"/"},{"allow_elevated":false,"allow_stdio_access":false,"capabilities":{"ambient":[],"bounding":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_NET_RAW","CAP_SETGID","CAP_SETUID","CAP_SETFCAP","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_KILL","CAP_AUDIT_WRITE"],"effective":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_NET_RAW","CAP_SETGID","CAP_SETUID","CAP_SETFCAP","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_KILL","CAP_AUDIT_WRITE"],"inheritable":[],"permitted":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_NET_RAW","CAP_SETGID","CAP_SETUID","CAP_SETFCAP","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_KILL","CAP_AUDIT_WRITE"]},"command":["/pause"],"env_rules":[{"pattern":"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","required":true,"strategy":"string"},{"pattern":"TERM=xterm","required":false,"strategy":"string"}],"exec_processes":[],"id":"pause","layers":["16b514057a06ad665f92c02863aca074fd5976c755d26bff16365299169e8415"],"mounts":[],"name":"pause-container","no_new_privileges":false,"seccomp_profile_sha256":"","signals":[],"user":{"group_idnames":[{"pattern":"","strategy":"any"}],"umask":"0022","user_idname":{"pattern":"","strategy":"any"}},"working_dir":"/"}]

allow_properties_access := true
allow_dump_stacks := false
allow_runtime_logging := false
allow_environment_variable_dropping := false
allow_unencrypted_scratch := false
allow_capability_dropping := true

mount_device := data.framework.mount_device
unmount_device := data.framework.unmount_device
mount_overlay := data.framework.mount_overlay
unmount_overlay := data.framework.unmount_overlay
create_container := data.framework.create_container
exec_in_container := data.framework.exec_in_container
exec_external := data.framework.exec_external
shutdown_container := data.framework.shutdown_container
signal_container_process := data.framework.signal_container_process
plan9_mount := data.framework.plan9_mount
plan9_unmount := data.framework.plan9_unmount
get_properties := data.framework.get_properties
dump_stacks := data.framework.dump_stacks
runtime_logging := data.framework.runtime_logging
load_fragment := data.framework.load_fragment
scratch_mount := data.framework.scratch_mount
scratch_unmount := data.framework.scratch_unmount

reason := {"errors": data.framework.errors}
