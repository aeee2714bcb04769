#!/usr/bin/env bash
# A SLURM cluster on one machine, for tests of scripts/slurm/: Debian's own daemons (the packages
# slurm-wlm and munge), on hosts that hosts.sh makes.
#
#   slurm.sh start FOLDER [NODES]          slurmctld and munged on head, a slurmd on host1, host2, …
#   slurm.sh on FOLDER COMMAND...          run sbatch, squeue, sacct, … on head
#   slurm.sh stop FOLDER
#
# Needs root. Keys, sockets, state and logs are in FOLDER, which stop leaves for reading; the
# system's own configuration, munge and SLURM are not touched. With the packages slurmdbd and
# mariadb-server there is accounting, and sacct answers; else jobs are listed by
# `sacct --completion --file=FOLDER/jobs.txt`.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
if (($# < 2)); then usage >&2; exit 2; fi
action="$1" folder="$(realpath -m "$2")"
shift 2
hosts="$(dirname "$(realpath "${BASH_SOURCE[0]}")")/hosts.sh"
export SLURM_CONF="$folder/slurm.conf"
on() { "$hosts" on "$folder" "$@"; }

# Waits, for at most half a minute, until a command succeeds.
until_it_works() {
  local tries=0
  until timeout 10 "$@" > /dev/null 2>&1; do
    ((tries++ < 150)) || { echo "slurm.sh: not within 30 seconds: $*" >&2; exit 1; }
    sleep 0.2
  done
}

can_account() { command -v slurmdbd mariadbd mariadb-install-db > /dev/null; }

write_configuration() {
  local nodes="$1"
  cat > "$folder/slurm.conf" << END
ClusterName=relic
SlurmctldHost=head
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
StateSaveLocation=$folder/state
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmdLogFile=$folder/slurmd-%n.log
SlurmdSpoolDir=$folder/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=30
SlurmdTimeout=20
SchedulerParameters=sched_interval=2,batch_sched_delay=0,requeue_delay=1
SlurmdParameters=config_overrides
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
NodeName=host[1-$nodes] CPUs=8 RealMemory=2000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=9
END
  if can_account; then
    printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=head \
      "AccountingStoragePass=$folder/munge.socket"       JobAcctGatherType=jobacct_gather/linux >> "$folder/slurm.conf"
  fi
}

start_accounting() {
  mariadb-install-db --no-defaults --datadir="$folder/accounts" --user=root \
    --auth-root-authentication-method=socket > "$folder/accounts.log" 2>&1
  on head mariadbd --no-defaults --user=root --datadir="$folder/accounts" --bind-address=127.0.0.1 \
    --socket="$folder/accounts.socket" --pid-file="$folder/accounts.pidfile" --port=3399 \
    --innodb-buffer-pool-size=64M --innodb-log-file-size=16M >> "$folder/accounts.log" 2>&1 &
  until_it_works "$hosts" on "$folder" head mariadb --no-defaults --socket="$folder/accounts.socket" \
    --execute "CREATE USER slurm@localhost IDENTIFIED BY 'slurm'; CREATE USER slurm@127.0.0.1 IDENTIFIED BY 'slurm'; GRANT ALL ON relic.* TO slurm@localhost; GRANT ALL ON relic.* TO slurm@127.0.0.1"
  cat > "$folder/slurmdbd.conf" << END
DbdHost=head
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
LogFile=$folder/slurmdbd.log
PidFile=$folder/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=3399
StorageUser=slurm
StoragePass=slurm
StorageLoc=relic
END
  chmod 600 "$folder/slurmdbd.conf"
  on head slurmdbd
  until_it_works "$hosts" on "$folder" head sacctmgr --noheader show cluster
  on head sacctmgr --immediate --quiet add cluster relic > /dev/null || true
}

case "$action" in
  start)
    nodes="${1:-4}"
    for needed in slurmctld slurmd munged; do
      command -v "$needed" > /dev/null ||
        { echo "slurm.sh: $needed is missing; install slurm-wlm and munge" >&2; exit 1; }
    done
    mkdir -p "$folder/state"
    "$hosts" start "$folder" "$nodes"
    (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
    on head munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
      --pid-file="$folder/munged.pidfile" --log-file="$folder/munged.log" \
      --seed-file="$folder/munge.seed"
    write_configuration "$nodes"
    if can_account; then start_accounting; fi
    on head slurmctld -c
    for number in $(seq "$nodes"); do on "host$number" slurmd -N "host$number"; done
    until_it_works "$hosts" on "$folder" head bash -c "((\$(sinfo --noheader --states=idle --format=%D) == $nodes))"
    ;;
  on) on head "$@" ;;
  stop) "$hosts" stop "$folder" ;;
  *) usage >&2; exit 2 ;;
esac
