-- What a node of a cluster says of its shard, by its own word: id, config epoch and slots in one text (slots on their way
-- in brackets), and the ids of its replicas.

local function this_shard()
  local own, replicas = nil, {}
  local nodes = redis.call('CLUSTER', 'NODES')
  for line in string.gmatch(nodes, '[^\n]+') do
    local fields = {}
    for field in string.gmatch(line, '%S+') do fields[#fields + 1] = field end
    if string.find(fields[3], 'myself', 1, true) then own = fields end
  end
  for line in string.gmatch(nodes, '[^\n]+') do
    local id, primary = string.match(line, '^(%S+) %S+ %S+ (%S+)')
    if primary == own[1] then replicas[#replicas + 1] = id end
  end
  table.sort(replicas)
  return table.concat({own[1], own[7], table.concat(own, ' ', 9)}, ' '), replicas
end
