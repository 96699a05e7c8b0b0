# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Completion of lsvirtio for bash: to be installed as share/bash-completion/completions/lsvirtio.

_lsvirtio() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} at sysfs=/sys devices
	COMPREPLY=()
	for ((at = 1; at < COMP_CWORD; at++)); do
		[[ ${COMP_WORDS[at]} != --sysfs ]] || sysfs=${COMP_WORDS[at + 1]}
	done
	if [[ $before == --sysfs ]]; then
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
	elif [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W '-h --help -v --verbose -j --json --sysfs --version' -- "$word")
	else
		devices=$(ls "$sysfs/bus/virtio/devices" 2>/dev/null)
		mapfile -t COMPREPLY < <(compgen -W "$devices" -- "$word")
	fi
}
complete -F _lsvirtio lsvirtio
