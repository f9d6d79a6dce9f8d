# fluentd.rb FLUENTD PLUGIN SETTINGS passes events to fluent-plugin-kinesis-aggregation and
# prints the Kinesis records that it sends, as lines of hexadecimal digits. FLUENTD and
# PLUGIN are folders with the source of Fluentd and of the plugin; SETTINGS are lines of
# its configuration. The events come in standard input as msgpack: [tag, time, record].
require 'msgpack'
ARGV.first(2).each { |folder| $LOAD_PATH.unshift(File.join(folder, 'lib')) }

# The client of AWS is the one part that is replaced.
%w[aws-sdk-core aws-sdk-kinesis].each { |name| $LOADED_FEATURES << "#{name}.rb" }
module Aws
  module Kinesis
    class Client
      def initialize(_options); end

      def put_record(data:, **)
        puts data.unpack1('H*')
      end
    end
  end
end
def require(name)
  name.start_with?('aws-sdk') || super
end

require 'fluent/test'
require 'fluent/test/driver/output'
require 'fluent/plugin/out_kinesis-aggregation'

Fluent::Test.setup
Fluent::MessagePackFactory.init
events = Fluent::MessagePackFactory.msgpack_unpacker($stdin.binmode).each.to_a
driver = Fluent::Test::Driver::Output.new(FluentPluginKinesisAggregation::OutputFilter).configure(ARGV[2])
driver.run(flush: true) do
  events.each { |tag, time, record| driver.feed(tag, time, record) }
end
