package options

import (
	"github.com/holdfast-config/holdfast/agent/keys"
)

// ResolveDamaged is Resolve for an agent that has to serve whatever its .env file is worth.
// What is wrong with the file is damage, and o has what is still readable of it: lines
// that cannot be used count as missing. The error is that of a flag or of the environment.
func (o *Options) ResolveDamaged(flag, env func(string) (string, bool)) (damage, err error) {
	asked := *o
	if damage = o.Resolve(flag, env); damage == nil {
		return nil, nil
	}
	*o = asked
	if err := o.resolve(flag, env, usableLines); err == nil {
		return damage, nil
	}
	*o = asked // each line may be used, and not all of them together
	err = o.resolve(flag, env, func(path string) (map[string]string, error) {
		file := keys.SalvageEnvFile(path)
		for _, s := range Settings(&Options{}) {
			delete(file, s.Env)
		}
		return file, nil
	})
	if err != nil {
		return nil, damage
	}
	return damage, nil
}

// usableLines has the lines of the file whose values are possible.
func usableLines(path string) (map[string]string, error) {
	file := keys.SalvageEnvFile(path)
	var scratch Options
	for _, s := range Settings(&scratch) {
		if v, ok := file[s.Env]; ok && v != "" && s.Set(v) != nil {
			delete(file, s.Env)
		}
	}
	return file, nil
}
