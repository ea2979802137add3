package agent

import (
	"github.com/holdfast-config/holdfast/agent/backupjob"
	"github.com/holdfast-config/holdfast/agent/observer"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/recovery"
)

type (
	Options      = options.Options
	Setting      = options.Setting
	RestorePoint = recovery.RestorePoint
)

const RoleObserver = options.RoleObserver

var (
	Defaults       = options.Defaults
	Settings       = options.Settings
	Groups         = options.Groups
	NewLogger      = process.NewLogger
	ListBackups    = backupjob.List
	RestoreCluster = recovery.RestoreCluster
	RestoreFile    = recovery.RestoreFile
	Recover        = recovery.Recover
	ReadFile       = recovery.ReadFile
)

// NewObserver makes an observer.
var NewObserver = observer.New
